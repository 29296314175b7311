"""What each vendor speaks: auth, limits, endpoints, paging, errors. One module a vendor, no I/O of its own."""
