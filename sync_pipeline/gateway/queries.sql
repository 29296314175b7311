-- name: lock
-- Whoever changes several windows in a transaction locks them first, in the order in which grants do.
select from sync.quota where scope = any(%(scopes)s) order by scope, window_name for update

-- name: ensure_window
-- (what the vendor asked for holds for the node, whatever its windows are called)
insert into sync.quota as q (
  scope, window_name, window_limit, window_seconds, kind, burst, emission, zone, slack, blocked_until)
values (%(scope)s, %(name)s, %(limit)s, %(seconds)s, %(kind)s, %(burst)s, %(emission)s, %(zone)s, %(slack)s,
        (select max(blocked_until) from sync.quota where scope = %(scope)s))
on conflict (scope, window_name) do update
set window_limit = excluded.window_limit, window_seconds = excluded.window_seconds, kind = excluded.kind,
    burst = excluded.burst, emission = excluded.emission, zone = excluded.zone, slack = excluded.slack,
    (slot, slots, counted, oldest, tat, lane_at, claimed_until, day, used, late) = (
      select c.slot, c.slots, c.counted, c.oldest, c.tat, c.lane_at, c.claimed_until, c.day, c.used, c.late
      from sync.quota_carried(q, excluded, clock_timestamp()) c)

-- name: drop_other_windows
delete from sync.quota where scope = %(scope)s and not window_name = any(%(names)s)

-- name: grant
select granted, wait, scope, window_name, now, held
from sync.quota_grant(%(scopes)s, %(lane)s, %(least)s, %(most)s)

-- name: give_back
select sync.quota_give_back(%(scopes)s, %(tokens)s, %(used_at)s)

-- name: spend
select sync.quota_spend(%(scopes)s, %(tokens)s)

-- name: block
update sync.quota
set blocked_until = greatest(blocked_until, clock_timestamp() + make_interval(secs => %(seconds)s)),
    updated_at = clock_timestamp()
where scope = %(scope)s

-- name: lower_share
select sync.quota_lower(%(scopes)s)

-- name: told
-- What was said of a day that is over, by the vendor's clock perhaps a slack later, says nothing of this one. (Locked first: until
-- the row is free it may be midnight.)
with q as materialized (
  select scope, window_name, kind, zone, slack from sync.quota
  where scope = any(%(scopes)s) and window_name = %(name)s order by scope for update
)
select sync.quota_told(array[scope], window_name, %(remaining)s, %(reset_s)s, %(leave_s)s) from q
where kind <> 'daily' or (clock_timestamp() at time zone zone)::date
  = ((clock_timestamp() - make_interval(secs => %(age_s)s + slack)) at time zone zone)::date

-- name: breaker_read
select scope, state, failures, extract(epoch from retry_at - clock_timestamp())::double precision, cool_down_s,
       extract(epoch from probe_expires - clock_timestamp())::double precision, coalesce(reason, ''), good_at is not null
from sync.breaker where connection = %(connection)s

-- name: breaker_open
-- By an operator, whatever it was.
insert into sync.breaker as b (connection, scope, state, failures, opened_at, retry_at, cool_down_s, reason)
values (%(connection)s, %(scope)s, 'open', 0, clock_timestamp(),
        clock_timestamp() + make_interval(secs => %(cool_down)s), %(cool_down)s, %(by_hand)s)
on conflict (connection, scope) do update
set state = 'open', failures = 0, failing_since = null, opened_at = excluded.opened_at, retry_at = excluded.retry_at,
    cool_down_s = excluded.cool_down_s, reason = excluded.reason, probe_owner = null, probe_expires = null,
    updated_at = clock_timestamp()

-- name: breaker_failed
select sync.breaker_failed(%(connection)s, %(scope)s, %(lease)s, %(enough)s, %(unnoted)s, %(first)s, %(longest)s, %(reason)s)

-- name: breaker_good
-- (a row is written only where it ends something: every worker tells this)
with ended as (
  update sync.breaker set failures = 0, failing_since = null, good_at = clock_timestamp(), updated_at = clock_timestamp()
  where connection = %(connection)s and scope = %(scope)s and state = 'closed' and (failures > 0 or good_at is null)
)
insert into sync.breaker (connection, scope, good_at)
select %(connection)s::text, %(scope)s::text, clock_timestamp()
where not exists (select from sync.breaker where connection = %(connection)s and scope = %(scope)s)
on conflict do nothing

-- name: breaker_probe
update sync.breaker
set state = 'half_open', probe_owner = %(lease)s, probe_expires = clock_timestamp() + make_interval(secs => %(ttl)s),
    updated_at = clock_timestamp()
where connection = %(connection)s and scope = %(scope)s and retry_at <= clock_timestamp()
  and (state = 'open' or (state = 'half_open' and probe_expires <= clock_timestamp()))
returning scope

-- name: breaker_renew
update sync.breaker set probe_expires = clock_timestamp() + make_interval(secs => %(ttl)s)
where connection = %(connection)s and probe_owner = %(lease)s and state = 'half_open'

-- name: breaker_release
-- The next probe may go at once: `retry_at` is over, or this one would not have gone.
update sync.breaker
set state = 'open', probe_owner = null, probe_expires = null, updated_at = clock_timestamp()
where connection = %(connection)s and probe_owner = %(lease)s and state = 'half_open'

-- name: breaker_close
update sync.breaker
set state = 'closed', failures = 0, failing_since = null, cool_down_s = 0, retry_at = null, probe_owner = null,
    probe_expires = null, reason = null, updated_at = clock_timestamp(),
    good_at = case when %(forced)s then good_at else clock_timestamp() end
where connection = %(connection)s and state <> 'closed'
  -- `forced`: by an operator, to whom 'credential' is any of the connection's.
  and (scope = %(scope)s or (%(forced)s and %(scope)s = 'credential' and scope like 'credential %%'))
  -- An answer to a call that was on its way does not undo what an operator did.
  and (%(forced)s or reason is distinct from %(by_hand)s or retry_at <= clock_timestamp())
returning 1

-- name: audit
copy sync.audit (at, correlation_id, connection, feed, endpoint, method, status, error_class, attempt, waited_ms,
                 latency_ms, bytes, payload_hash, lane, token_generation) from stdin

-- name: latency_all
select endpoint, sketch from sync.latency where connection = %(connection)s

-- name: latency_lock
select pg_advisory_xact_lock(hashtextextended(%(connection)s || ' ' || %(endpoint)s, 7))

-- name: latency_one
select sketch from sync.latency where connection = %(connection)s and endpoint = %(endpoint)s

-- name: latency_put
insert into sync.latency as l (connection, endpoint, sketch, calls, p50_s, p95_s, p99_s)
values (%(connection)s, %(endpoint)s, %(sketch)s, %(calls)s, %(p50)s, %(p95)s, %(p99)s)
on conflict (connection, endpoint) do update
set sketch = excluded.sketch, calls = l.calls + excluded.calls, p50_s = excluded.p50_s, p95_s = excluded.p95_s,
    p99_s = excluded.p99_s, updated_at = clock_timestamp()

-- name: token_ensure
insert into sync.token (credential) values (%(credential)s) on conflict do nothing

-- name: token_lock
-- One refresh at a time, whoever asks: held by the session, so that it ends with its worker.
select pg_try_advisory_lock(hashtextextended('sync.token ' || %(credential)s, 0))

-- name: token_unlock
select pg_advisory_unlock(hashtextextended('sync.token ' || %(credential)s, 0))

-- name: token_read
select generation, sealed, has_refresh, issued_at, expires_at, rejected, sent_at, uncertain_since, reauthorise_since, reason,
       retry_at, failures, mints
from sync.token where credential = %(credential)s

-- name: token_write
-- `sealed` is null where the pair stays. A refusal that arrives meanwhile stands until there is a new generation.
update sync.token
set generation = %(generation)s, sealed = coalesce(%(sealed)s, sealed), has_refresh = %(has_refresh)s,
    issued_at = %(issued_at)s, expires_at = %(expires_at)s,
    rejected = rejected and generation = %(generation)s,
    sent_at = %(sent_at)s, uncertain_since = %(uncertain_since)s, reauthorise_since = %(reauthorise_since)s,
    reason = %(reason)s, retry_at = %(retry_at)s, failures = %(failures)s, mints = %(mints)s,
    updated_at = clock_timestamp()
where credential = %(credential)s and generation = %(expected)s
returning generation

-- name: token_rejected
update sync.token set rejected = true, updated_at = clock_timestamp()
where credential = %(credential)s and generation = %(generation)s and not rejected
