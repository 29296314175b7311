-- What a list was known by is kept in the feed's cursor now, so that it moves in the transaction that lands the pages: kept
-- apart, a worker killed in between made the vendor say "not modified" of pages that were never landed.
drop table sync.http_validator;
