-- name: demo_made
select 1 from sync.origin where kind = 'demo'

-- name: any_page
select 1 from sync.page limit 1

-- name: empty_everything
truncate sync.feed_state, sync.page, sync.quarantine, sync.held, sync.outbox, sync.handoff, sync.audit, sync.quota,
  sync.breaker, sync.contract_drift, sync.delta, sync.origin,
  registrations.registration restart identity

-- name: mark_demo
insert into sync.origin (kind, detail) values ('demo', %(detail)s) returning made_at

-- name: demo_world
select (detail ->> 'seed')::integer, (detail ->> 'orders')::integer, made_at,
       (detail ->> 'burst_at')::timestamptz from sync.origin where kind = 'demo'

-- name: mark_burst
update sync.origin set detail = detail || jsonb_build_object('burst_at', clock_timestamp()) where kind = 'demo'

-- name: feed_numbers
with pages as (
  select count(*) as pages, coalesce(sum(received), 0) as received, coalesce(sum(applied), 0) as applied,
         coalesce(sum(unchanged), 0) as unchanged, coalesce(sum(superseded), 0) as superseded,
         coalesce(sum(held), 0) as held, coalesce(sum(quarantined), 0) as quarantined
  from sync.page where connection = %(connection)s and feed = %(feed)s
), calls as (
  select count(*) as requests, count(*) filter (where status = 429) as answers_429
  from sync.audit where connection = %(connection)s and feed = %(feed)s
), lags as (
  select percentile_cont(0.95) within group (order by extract(epoch from applied_at - modified_at)) as lag
  from registrations.registration r, sync.origin o
  where r.connection = %(connection)s and r.feed = %(feed)s and o.kind = 'demo'
    and r.modified_at >= date_trunc('second', (o.detail ->> 'burst_at')::timestamptz)
)
select calls.requests::integer, calls.answers_429::integer, pages.pages::integer, pages.received::integer,
       pages.applied::integer, pages.unchanged::integer, pages.superseded::integer, pages.held::integer,
       pages.quarantined::integer, round(lags.lag::numeric, 3)::double precision as lag_p95_s
from pages, calls, lags

-- name: known_feeds
select connection, feed from sync.feed_state order by 1, 2

-- name: quarantine_keys
select key from sync.quarantine where key = any(%(keys)s)

-- name: quarantine_count
-- The rows that `quarantine_select` of the ledger finds, whatever its limit.
select connection, feed, count(*)::integer as number
from sync.quarantine
where (%(connection)s::text is null or connection = %(connection)s)
  and (%(feed)s::text is null or feed = %(feed)s)
  and (%(status)s::text is null or status = %(status)s)
  and (%(kind)s::text is null or kind = %(kind)s)
  and (%(code)s::text is null or %(code)s = any(codes))
  and (%(contract_version)s::text is null or contract_version = %(contract_version)s)
  and (%(keys)s::text[] is null or key = any(%(keys)s))
group by 1, 2 order by 1, 2

-- name: status_feeds
select f.connection || '/' || f.feed as feed, f.watermark,
       round(extract(epoch from clock_timestamp() - f.watermark))::bigint as behind_s,
       f.last_poll_at as last_poll, f.next_due, f.lease_expires > clock_timestamp() as in_session,
       coalesce(p.pages, 0) as pages, coalesce(p.waiting, 0) as pages_waiting, coalesce(p.given_up, 0) as pages_given_up,
       coalesce(q.open, 0) as quarantined, coalesce(q.dead, 0) as dead_letters, coalesce(h.held, 0) as held,
       case when f.deferred_until > clock_timestamp()
            then 'waiting for '  -- as in polling/schedule.py: waits
                 || case f.deferred_for when 'quota' then 'quota' else 'its ' || f.deferred_for end
                 || ' until ' || to_char(f.deferred_until at time zone 'UTC', 'HH24:MI:SS"Z"')
                 || ': ' || f.deferred_reason
            when f.last_error is null and f.restarted_at > clock_timestamp() - interval '7 days'
            then 'started from the beginning at ' || to_char(f.restarted_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"')
                 || ': ' || f.restart_reason
            else f.last_error end as remark
from sync.feed_state f
left join (select connection, feed, count(*) as pages, count(*) filter (where status = 'landed') as waiting,
                  count(*) filter (where status = 'given_up') as given_up
           from sync.page group by 1, 2) p using (connection, feed)
left join (select connection, feed, count(*) filter (where kind = 'quarantine') as open,
                  count(*) filter (where kind = 'dead_letter') as dead
           from sync.quarantine where status = 'open' group by 1, 2) q using (connection, feed)
left join (select connection, feed, count(*) as held from sync.held group by 1, 2) h using (connection, feed)
order by 1

-- name: status_quota
select scope, window_name as "window", window_limit as "limit", window_seconds as seconds, used, left_over as left,
       blocked_until
from sync.quota_now order by 1, 4

-- name: status_breakers
select connection, scope as endpoint, state, failures, retry_at, reason from sync.breaker
where state <> 'closed' order by 1, 2

-- name: known_endpoints
-- That were asked, that had an answer, or that were spared: the audit is not kept for ever. A token endpoint, which is asked for
-- no feed, has no breaker.
select endpoint from sync.audit where connection = %(connection)s and feed <> ''
union select endpoint from sync.latency where connection = %(connection)s
union select scope from sync.breaker where connection = %(connection)s and state <> 'closed'
  and scope <> 'credential' and scope not like 'credential %%'
