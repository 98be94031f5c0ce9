"""Strategies, one file each, by which a campaign picks its next schedule; they are registered in
`explore.portfolio`."""
