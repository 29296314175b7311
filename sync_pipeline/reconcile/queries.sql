-- name: unsettled
-- Others first each day, so that a long list is gone through. `changed_since`: of a feed made of another's pages, records of
-- that other one which a run has repaired since then. They are settled now, but what is made of them may not be yet.
select vendor_id from {target}
where connection = %(connection)s and feed = %(feed)s
  and (jsonb_path_exists(metadata, %(unsettled)s::jsonpath,
                         jsonb_build_object('vendor_status', vendor_status, 'payment_status', payment_status), true)
       or vendor_id = any(array(
            select d.vendor_id from sync.delta d
            where d.connection = %(connection)s and d.feed = %(feed)s and d.cause = 'changed_unstamped'
              and d.last_seen >= %(changed_since)s::timestamptz)))
order by md5(vendor_id || %(day)s::date::text) limit %(limit)s

-- name: days_of_turn
-- A day whose last record was removed still has the differences that were found in it: they are settled by its turn.
select day from (
  select (modified_at at time zone 'UTC')::date as day from {target}
  where connection = %(connection)s and feed = any(%(feeds)s) and modified_at < %(before)s
  union
  select partition_day from sync.delta
  where connection = %(connection)s and feed = any(%(feeds)s) and not verified
    and partition_day < (%(before)s at time zone 'UTC')::date) d
where mod(day - date '2000-01-01', %(cycle)s) = mod(%(today)s::date - date '2000-01-01', %(cycle)s)
order by day

-- name: newer_in_quarantine
select r.vendor_id, r.modified_at
from sync.quarantine q join {target} r on (r.connection, r.feed, r.vendor_id) = (q.connection, q.feed, q.vendor_id)
where q.connection = %(connection)s and q.feed = %(feed)s and q.status = 'open' and q.kind = 'quarantine'
  and sync.shown_later(q.page_id, r.page_id)
  and (%(everywhere)s or r.vendor_id = any(%(shown)s) or (r.modified_at >= %(start)s and r.modified_at < %(end)s))
order by r.vendor_id

-- name: orders_of
select vendor_id, order_id from {target}
where connection = %(connection)s and feed = %(feed)s and vendor_id = any(%(ids)s)

-- name: applied_hashes
select vendor_id, content_hash from {target}
where connection = %(connection)s and feed = %(feed)s and vendor_id = any(%(ids)s)
  and contract_version = %(contract_version)s

-- name: database_now
select clock_timestamp()

-- name: applied_before
select vendor_id from {target}
where connection = %(connection)s and feed = %(feed)s and vendor_id = any(%(ids)s) and applied_at < %(began)s
