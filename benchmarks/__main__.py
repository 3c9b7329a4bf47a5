"""`make bench`: the life of a database beside the existing EBooklet, then local speed."""

from benchmarks import life, local

life.main()
local.main()
