-- name: feed_states
select feed, last_poll_at, next_due, deferred_until, deferred_for, deferred_reason, coalesce(cursor ? 'opened_at', false), paused,
       estimate, coalesce(calls_a_poll, 1)
from sync.feed_state where connection = %(connection)s

-- name: session_facts
with pages as (
  select count(*) as pages, coalesce(sum(received), 0) as received, coalesce(sum(applied), 0) as applied,
         coalesce(sum(unchanged), 0) as unchanged, coalesce(sum(superseded), 0) as superseded,
         coalesce(sum(held), 0) as held, coalesce(sum(quarantined), 0) as quarantined, min(id) as first_page
  from sync.page where connection = %(connection)s and feed = %(feed)s and session = %(session)s
), calls as (
  select count(*) as requests, count(*) filter (where status = 429) as answers_429,
         count(*) filter (where attempt > 1) as retries, coalesce(sum(waited_ms), 0) / 1000 as waited_s
  from sync.audit where correlation_id = %(session)s and feed = %(feed)s
), broken as (
  select count(*) as number from sync.page
  where connection = %(connection)s and feed = %(feed)s
    and (received <> applied + unchanged + superseded + held + quarantined
         or (status = 'landed' and landed_at < clock_timestamp() - interval '10 minutes'))
), state as (
  select watermark, caught_up_at, next_due, why, deferred_until, deferred_for, deferred_reason, last_error
  from sync.feed_state where connection = %(connection)s and feed = %(feed)s
), open as (
  select count(*) filter (where kind = 'quarantine') as quarantined, count(*) filter (where kind = 'dead_letter') as dead
  from sync.quarantine where connection = %(connection)s and feed = %(feed)s and status = 'open'
), held as (
  select count(*) as number from sync.held where connection = %(connection)s and feed = %(feed)s
)
select state.watermark, state.caught_up_at, state.next_due, state.why, state.deferred_until, state.deferred_for,
       state.deferred_reason, state.last_error, clock_timestamp() as now,
       pages.pages::integer, pages.received::integer, pages.applied::integer, pages.unchanged::integer,
       pages.superseded::integer, pages.held::integer, pages.quarantined::integer, pages.first_page,
       calls.requests::integer, calls.answers_429::integer, calls.retries::integer, calls.waited_s::double precision,
       broken.number::integer as broken_pages, open.quarantined::integer as open_quarantine,
       open.dead::integer as dead_letters, held.number::integer as held_now
from pages, calls, broken, open, held left join state on true

-- name: standings
select feed, watermark, caught_up_at, next_due, why, deferred_until, deferred_for, deferred_reason, last_error, clock_timestamp() as now
from sync.feed_state where connection = %(connection)s

-- name: rejections
-- A record that was shown twice is one row; one with two codes counts at both.
with rejected as (
  select codes from sync.quarantine
  where connection = %(connection)s and feed = %(feed)s and status = 'open' and kind = 'quarantine'
    and (%(first_page)s::bigint is null or page_id >= %(first_page)s)
)
select code, count(*)::integer as records, (select count(*) from rejected)::integer as all_records,
       count(*) over ()::integer as codes
from rejected, unnest(rejected.codes) as code
group by code order by 2 desc, 1 limit 10

-- name: feeds_ever
select connection, feed from sync.feed_state union select connection, feed from sync.quarantine

-- name: last_cycle
with newest as (
  select session from sync.page
  where connection = %(connection)s and feed = %(feed)s and received > 0 order by id desc limit 1
)
select coalesce(sum(p.received), 0)::integer, coalesce(sum(p.quarantined), 0)::integer, min(p.id)
from sync.page p join newest using (session)
where p.connection = %(connection)s and p.feed = %(feed)s

-- name: row_facts
select count(*)::integer as rows,
       percentile_cont(0.95) within group (order by extract(epoch from applied_at - modified_at))
         filter (where page_id >= %(first_page)s and modified_at > %(since)s) as lag_p95_s
from {target} where connection = %(connection)s and feed = %(feed)s

-- name: table_columns
select column_name from information_schema.columns where table_schema = %(schema)s and table_name = %(table)s

-- name: registrations_summary
select feed, kind, payment_status, tier, count(*)::integer as registrations
from (select connection || '/' || feed as feed, kind, payment_status, tier from registrations.registration) r
group by 1, 2, 3, 4 order by 1, 2, 5 desc

-- name: quota_tree
select scope, window_name as "window", window_limit as "limit", window_seconds as seconds, kind, zone, used,
       left_over as "left", blocked_until, share, foreign_rate
from sync.quota_now order by scope, window_seconds

-- name: quota_use
-- Answered calls of the last `hours`, by connection, lane and feed.
select connection, lane, coalesce(nullif(feed, ''), '(token)') as feed, count(*)::integer as calls,
       count(*) filter (where status = 429)::integer as answers_429,
       round((sum(waited_ms) / 1000)::numeric, 1)::double precision as waited_s
from sync.audit where at > clock_timestamp() - make_interval(hours => %(hours)s) and status is not null
group by 1, 2, 3 order by 1, 2, 3

-- name: quota_hours
select date_trunc('hour', at) as hour, connection, lane, count(*)::integer as calls,
       count(*) filter (where status = 429)::integer as answers_429
from sync.audit where at > clock_timestamp() - make_interval(hours => %(hours)s) and status is not null
group by 1, 2, 3 order by 1, 2, 3

-- name: quota_foreign
select scope, "window_name" as "window", sum(calls)::integer as calls, max(at) as last_seen
from sync.quota_foreign where at > clock_timestamp() - make_interval(hours => %(hours)s)
group by 1, 2 order by 1, 2

-- name: quota_waiting
select connection, feed, deferred_for as "for", deferred_until as until, deferred_reason as reason
from sync.feed_state where deferred_until > clock_timestamp() order by 1, 2

-- name: quota_latency
select connection, endpoint, calls, round((p50_s * 1000)::numeric)::integer as p50_ms,
       round((p95_s * 1000)::numeric)::integer as p95_ms, round((p99_s * 1000)::numeric)::integer as p99_ms
from sync.latency order by 1, 2

-- name: calls_since
-- Of these connections; of one endpoint only where `endpoints` names it.
select count(*)::integer as calls
from unnest(%(connections)s::text[], %(endpoints)s::text[]) as c (connection, endpoint)
join sync.audit a on a.connection = c.connection and a.endpoint = coalesce(c.endpoint, a.endpoint)
where a.at > %(since)s and a.status is not null

-- name: records_of_days
select count(*)::integer as records from {target}
where connection = %(connection)s and feed = %(feed)s and modified_at > clock_timestamp() - make_interval(days => %(days)s)

-- name: breakers_open
select connection, scope as endpoint, state, failures, opened_at, retry_at, reason
from sync.breaker where state <> 'closed' order by 1, 2

-- name: quota_left
select left_over, window_seconds from sync.quota_now where scope = any(%(scopes)s)
order by left_over::double precision / window_limit limit 1
