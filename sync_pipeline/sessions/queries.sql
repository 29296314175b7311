-- name: conservation
select count(*) from sync.page where received <> applied + unchanged + superseded + held + quarantined

-- name: pages_waiting
select count(*) from sync.page p
where status = 'landed' and not exists (
  select 1 from sync.feed_state f
  where f.connection = p.connection and f.feed = p.source_feed and f.lease_expires > clock_timestamp())

-- name: pages_given_up
-- What was on them is listed again by the window that opened after the resync: once one has closed, nothing is missing.
select count(*) from sync.page p
where status = 'given_up' and not exists (
  select 1 from sync.feed_state f
  where f.connection = p.connection and f.feed = p.source_feed and f.caught_up_at > p.given_up_at)

-- name: rows_without_page
select count(*) from registrations.registration r
where not exists (select 1 from sync.page p where p.id = r.page_id and p.connection = r.connection and p.feed = r.feed)

-- name: held_and_applied
select count(*) from sync.held h join registrations.registration r using (connection, feed, vendor_id)
where r.modified_at > h.modified_at
   or (r.modified_at = h.modified_at and not sync.shown_later(h.page_id, r.page_id))

-- name: newer_in_quarantine
select count(*) from sync.quarantine q join registrations.registration r using (connection, feed, vendor_id)
where q.status = 'open' and q.kind = 'quarantine' and sync.shown_later(q.page_id, r.page_id)

-- name: object_keys
select distinct object_key from sync.page where status <> 'given_up' order by 1
