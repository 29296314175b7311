"""Raw pages, immutable: content-addressed objects, and the transaction that registers a page and moves the cursor."""
