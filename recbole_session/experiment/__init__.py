"""Many runs: compare, test for significance, report, tune."""
