"""Strategies, one file each, by which a campaign picks the next schedule to try; they are registered in
`explore.portfolio`."""
