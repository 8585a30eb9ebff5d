"""Many runs: plan them, reuse what is there, make the rest."""
