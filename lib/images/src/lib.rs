//! Container images: pull, verify, unpack, one read-only erofs disk each, cache.
