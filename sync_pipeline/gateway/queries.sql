-- name: ensure_window
insert into sync.quota (scope, window_name, window_limit, window_seconds, kind, burst)
values (%(scope)s, %(name)s, %(limit)s, %(seconds)s, %(kind)s, %(burst)s)
on conflict (scope, window_name) do update
set window_limit = excluded.window_limit, window_seconds = excluded.window_seconds, kind = excluded.kind,
    burst = excluded.burst

-- name: drop_other_windows
delete from sync.quota where scope = %(scope)s and not window_name = any(%(names)s)

-- name: grant
-- GCRA on every window of the scope at once, by the database's clock. Seconds to wait before sending, and now.
with locked as (
  select window_name from sync.quota where scope = %(scope)s order by window_name for update
), granted as (
  update sync.quota q
  set tat = greatest(q.tat, clock_timestamp(), q.blocked_until) + make_interval(secs => %(tokens)s * w.emission),
      updated_at = clock_timestamp()
  from locked l, unnest(%(names)s::text[], %(emissions)s::double precision[]) as w(name, emission)
  where q.scope = %(scope)s and q.window_name = l.window_name and w.name = q.window_name
  returning q.window_name, greatest(extract(epoch from q.tat - make_interval(secs => q.burst * w.emission) - clock_timestamp()),
                     extract(epoch from q.blocked_until - clock_timestamp()), 0) as wait
)
select window_name, wait::double precision, clock_timestamp() from granted order by wait desc limit 1

-- name: give_back
update sync.quota q set tat = q.tat - make_interval(secs => %(tokens)s * w.emission)
from unnest(%(names)s::text[], %(emissions)s::double precision[]) as w(name, emission)
where q.scope = %(scope)s and w.name = q.window_name

-- name: block
update sync.quota
set blocked_until = greatest(blocked_until, clock_timestamp() + make_interval(secs => %(seconds)s)),
    updated_at = clock_timestamp()
where scope = %(scope)s

-- name: lower
-- The vendor says that `remaining` are left until its reset: the estimate may only go down to that.
update sync.quota
set tat = greatest(tat, clock_timestamp()
            + make_interval(secs => (burst - %(remaining)s) * %(emission)s + %(reset_s)s)),
    blocked_until = case when %(remaining)s <= 0
      then greatest(blocked_until, clock_timestamp() + make_interval(secs => %(reset_s)s)) else blocked_until end,
    remaining_said = %(remaining)s, reset_said = clock_timestamp() + make_interval(secs => %(reset_s)s)
where scope = %(scope)s and window_name = %(name)s

-- name: breaker_read
select scope, state, failures, extract(epoch from retry_at - clock_timestamp())::double precision, cool_down_s,
       extract(epoch from probe_expires - clock_timestamp())::double precision
from sync.breaker where connection = %(connection)s

-- name: breaker_open
insert into sync.breaker as b (connection, scope, state, failures, opened_at, retry_at, cool_down_s, reason)
values (%(connection)s, %(scope)s, 'open', %(failures)s, clock_timestamp(),
        clock_timestamp() + make_interval(secs => %(cool_down)s), %(cool_down)s, %(reason)s)
on conflict (connection, scope) do update
set state = 'open', failures = excluded.failures, opened_at = excluded.opened_at, retry_at = excluded.retry_at,
    cool_down_s = excluded.cool_down_s, reason = excluded.reason, probe_owner = null, probe_expires = null,
    updated_at = clock_timestamp()
where b.state <> 'open' or b.retry_at <= clock_timestamp()

-- name: breaker_probe
update sync.breaker
set state = 'half_open', probe_owner = %(owner)s, probe_expires = clock_timestamp() + make_interval(secs => %(ttl)s),
    updated_at = clock_timestamp()
where connection = %(connection)s and scope = %(scope)s and retry_at <= clock_timestamp()
  and (state = 'open' or (state = 'half_open' and probe_expires <= clock_timestamp()))
returning scope

-- name: breaker_close
update sync.breaker
set state = 'closed', failures = 0, cool_down_s = 0, retry_at = null, probe_owner = null, probe_expires = null,
    reason = null, updated_at = clock_timestamp()
where connection = %(connection)s and scope = %(scope)s and state <> 'closed'

-- name: audit
insert into sync.audit (at, correlation_id, connection, feed, endpoint, method, status, error_class, attempt, waited_ms,
                        latency_ms, bytes, payload_hash, lane)
values (%(at)s, %(correlation_id)s, %(connection)s, %(feed)s, %(endpoint)s, %(method)s, %(status)s, %(error_class)s,
        %(attempt)s, %(waited_ms)s, %(latency_ms)s, %(bytes)s, %(payload_hash)s, %(lane)s)

-- name: validator_get
select etag, last_modified from sync.http_validator where connection = %(connection)s and url_key = %(url_key)s

-- name: validator_put
insert into sync.http_validator (connection, url_key, etag, last_modified)
values (%(connection)s, %(url_key)s, %(etag)s, %(last_modified)s)
on conflict (connection, url_key) do update
set etag = excluded.etag, last_modified = excluded.last_modified, seen_at = clock_timestamp()
