-- name: ensure_feed
insert into sync.feed_state (connection, feed) values (%(connection)s, %(feed)s) on conflict do nothing

-- name: acquire_lease
update sync.feed_state
set lease_owner = %(owner)s, fence = fence + 1, lease_expires = clock_timestamp() + make_interval(secs => %(ttl)s)
where connection = %(connection)s and feed = %(feed)s
  and (lease_owner is null or lease_expires < clock_timestamp() or lease_owner = %(owner)s)
returning fence, cursor, clock_timestamp()

-- name: release_lease
update sync.feed_state set lease_owner = null, lease_expires = null
where connection = %(connection)s and feed = %(feed)s and fence = %(fence)s

-- name: insert_pages
insert into sync.page (connection, feed, source_feed, session, sha256, object_key, bytes, fetched_at, cursor, audit_id, shown_at)
select %(connection)s, feed, %(source_feed)s, %(session)s, decode(sha256, 'hex'), object_key, bytes, fetched_at, cursor, audit_id,
       shown_at
from rows from (jsonb_to_recordset(%(pages)s) as (
  feed text, sha256 text, object_key text, bytes bigint, fetched_at timestamptz, cursor jsonb, audit_id bigint,
  shown_at timestamptz)) with ordinality
order by ordinality
returning id

-- name: move_cursor
update sync.feed_state
set cursor = %(cursor)s, cursor_version = cursor_version + 1, watermark = %(watermark)s,
    last_poll_at = clock_timestamp(), last_error = null, last_error_at = null, deferred_until = null, deferred_reason = null,
    caught_up_at = case when %(closed)s then clock_timestamp() else caught_up_at end,
    lease_expires = clock_timestamp() + make_interval(secs => %(ttl)s)
where connection = %(connection)s and feed = %(feed)s and fence = %(fence)s
returning clock_timestamp()

-- name: follow_cursor
insert into sync.feed_state (connection, feed, cursor, watermark, last_poll_at, caught_up_at)
values (%(connection)s, %(feed)s, %(cursor)s, %(watermark)s, clock_timestamp(),
        case when %(closed)s then clock_timestamp() end)
on conflict (connection, feed) do update
set cursor = excluded.cursor, cursor_version = sync.feed_state.cursor_version + 1, watermark = excluded.watermark,
    last_poll_at = excluded.last_poll_at, caught_up_at = coalesce(excluded.caught_up_at, sync.feed_state.caught_up_at),
    last_error = null, last_error_at = null, deferred_until = null, deferred_reason = null

-- name: pending_pages
select id, feed, source_feed, object_key, fetched_at, cursor, shown_at from sync.page
where connection = %(connection)s and feed = any(%(feeds)s) and status = 'landed'
order by id limit %(limit)s

-- name: landed_pages
select id, feed, source_feed, object_key, fetched_at, cursor, shown_at from sync.page
where connection = %(connection)s and feed = %(feed)s and id > %(after)s and status <> 'given_up'
order by id limit %(limit)s

-- name: reset_cursor
-- Only back: what lies between the watermark and a later instant would never be listed. A feed that was never polled starts
-- where it is told to.
update sync.feed_state
set cursor = %(cursor)s, cursor_version = cursor_version + 1, watermark = %(watermark)s, fence = fence + 1,
    lease_owner = null, lease_expires = null, next_due = null, deferred_until = null, deferred_reason = null
where connection = %(connection)s and feed = %(feed)s
  and (%(skip)s or last_poll_at is null or %(watermark)s::timestamptz is null or %(watermark)s <= watermark)
returning cursor_version

-- name: watermark
select watermark from sync.feed_state where connection = %(connection)s and feed = %(feed)s

-- name: give_up_pages
update sync.page set status = 'given_up', given_up_at = clock_timestamp()
where connection = %(connection)s and source_feed = %(feed)s and id = any(%(pages)s) and status = 'landed'

-- name: feed_scope
select scope from sync.feed_state where connection = %(connection)s and feed = %(feed)s

-- name: enter_scope
update sync.feed_state set scope = %(scope)s
where connection = %(connection)s and feed = %(feed)s and fence = %(fence)s
returning 1

-- name: restart_feeds
update sync.feed_state
set cursor = '{}', cursor_version = cursor_version + 1, watermark = null, restarted_at = clock_timestamp(),
    restart_reason = %(reason)s
where connection = %(connection)s and feed = any(%(feeds)s)

-- name: record_error
update sync.feed_state set last_error = %(error)s, last_error_at = clock_timestamp()
where connection = %(connection)s and feed = any(%(feeds)s)

-- name: record_deferral
update sync.feed_state set deferred_until = %(until)s, deferred_for = %(awaits)s, deferred_reason = %(reason)s
where connection = %(connection)s and feed = any(%(feeds)s)

-- name: recall
select estimate, calls_a_poll from sync.feed_state where connection = %(connection)s and feed = %(feed)s

-- name: schedule_next
update sync.feed_state set next_due = %(next_due)s, why = %(why)s, estimate = coalesce(%(estimate)s, estimate),
  calls_a_poll = %(calls_a_poll)s
where connection = %(connection)s and feed = any(%(feeds)s)

-- name: lease_holder
select lease_owner, fence from sync.feed_state
where connection = %(connection)s and feed = %(feed)s and lease_expires > clock_timestamp()

-- name: break_lease
update sync.feed_state set lease_expires = clock_timestamp()
where connection = %(connection)s and feed = %(feed)s and fence = %(fence)s

-- name: renew_lease
update sync.feed_state set lease_expires = clock_timestamp() + make_interval(secs => %(ttl)s)
where connection = %(connection)s and feed = %(feed)s and fence = %(fence)s and lease_owner is not null
returning fence
