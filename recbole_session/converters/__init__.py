"""Raw interaction logs in, RecBole atomic files out."""
