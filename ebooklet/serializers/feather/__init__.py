"""Data frames in Feather, Arrow's file format with zstd inside, as Booklet's `pd_zstd` and `gpd_zstd`.

Arrow trusts what it reads: it allocates what a file claims, and follows offsets into memory unless
it is told to check them. So a file is looked through here before pandas gets it.
"""
