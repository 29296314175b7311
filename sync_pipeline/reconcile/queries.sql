-- name: unsettled
-- Others first each day, so that a long list is gone through.
select vendor_id from {target}
where connection = %(connection)s and feed = %(feed)s and metadata @? %(unsettled)s::jsonpath
order by md5(vendor_id || %(day)s::date::text) limit %(limit)s

-- name: days_of_turn
select distinct day from (
  select (modified_at at time zone 'UTC')::date as day from {target}
  where connection = %(connection)s and feed = %(feed)s and modified_at < %(before)s) d
where mod(day - date '2000-01-01', %(cycle)s) = mod(%(today)s::date - date '2000-01-01', %(cycle)s)
order by day

-- name: applied_hashes
select vendor_id, content_hash from {target}
where connection = %(connection)s and feed = %(feed)s and vendor_id = any(%(ids)s)
  and contract_version = %(contract_version)s
