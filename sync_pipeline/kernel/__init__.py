"""The words every room shares: feeds, cursors, pages, errors, the clock. No I/O, no imports from other rooms."""
