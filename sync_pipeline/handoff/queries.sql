-- name: claim
-- Entities with waiting changes: first those that have not failed, of these the ones that wait longest. However many always fail,
-- the others are asked before them. An entity with a dead change waits until that is resolved; one that has failed waits for its
-- time, whatever comes after.
select o.feed, o.vendor_id, o.table_name, max(o.attempts)
from sync.outbox o
where o.connection = %(connection)s and o.status = 'waiting' and o.next_attempt_at <= clock_timestamp()
  and not exists (select 1 from sync.outbox d where (d.status = 'dead' or d.next_attempt_at > clock_timestamp())
                  and d.connection = o.connection and d.feed = o.feed and d.vendor_id = o.vendor_id)
group by o.feed, o.vendor_id, o.table_name
order by max(o.failures) + max((o.error_code is not null)::integer), min(o.id) limit %(limit)s

-- name: alone
-- One worker at a time hands on a registration, so that an older version never arrives after a newer one.
select pg_try_advisory_xact_lock(hashtextextended(%(lock)s, 0))

-- name: to_send
-- Looked at again under the lock: another worker may have handed it on, or had it refused. Changes and row in one look: what is
-- sent is the newest of them. The row as text: what is beyond a float or 64 bits arrives as it was written.
select o.id, o.failures, (to_jsonb(r) - 'content_hash' - 'page_id' - 'applied_at')::text, r.modified_at, r.content_hash,
       r.applied_at
from (select max(id) as id, max(failures) as failures from sync.outbox
      where connection = %(connection)s and feed = %(feed)s and vendor_id = %(vendor_id)s
      having bool_and(status = 'waiting')) o
left join {target} r on r.connection = %(connection)s and r.feed = %(feed)s and r.vendor_id = %(vendor_id)s

-- name: handed
with gone as (
  delete from sync.outbox
  where connection = %(connection)s and feed = %(feed)s and vendor_id = %(vendor_id)s and id <= %(id)s
)
insert into sync.handoff as h (connection, feed, vendor_id, modified_at, content_hash)
values (%(connection)s, %(feed)s, %(vendor_id)s, %(modified_at)s, %(content_hash)s)
on conflict (connection, feed, vendor_id) do update
set modified_at = excluded.modified_at, content_hash = excluded.content_hash, given_up = false,
    handed_at = clock_timestamp()

-- name: not_taken
-- Whose fault it was shows later (`count_failures`): `error_code` keeps that it is not known yet.
update sync.outbox set attempts = attempts + 1, error_code = 'NOT_TAKEN',
  next_attempt_at = clock_timestamp() + make_interval(secs => %(seconds)s)
where connection = %(connection)s and feed = %(feed)s and vendor_id = %(vendor_id)s and status = 'waiting' and id <= %(id)s

-- name: count_failures
-- Another one was taken: what has failed before it has failed by itself. What somebody is just writing to is counted the next time.
update sync.outbox set failures = failures + 1, error_code = null
where id = any(array(select id from sync.outbox
                     where connection = %(connection)s and status = 'waiting' and error_code = 'NOT_TAKEN'
                     for update skip locked))

-- name: postpone
update sync.outbox set attempts = attempts + 1,
  next_attempt_at = clock_timestamp() + make_interval(secs => %(seconds)s)
where connection = %(connection)s and status = 'waiting' and next_attempt_at <= clock_timestamp()

-- name: bury
-- The changes of a registration above `after` and up to `id`.
with dead as (
  update sync.outbox set status = 'dead', error_code = %(code)s, attempts = attempts + 1
  where connection = %(connection)s and feed = %(feed)s and vendor_id = %(vendor_id)s and id > %(after)s and id <= %(id)s
  returning page_id
)
insert into sync.quarantine as q (key, connection, feed, vendor_id, kind, page_id, raw, codes, problems, contract_version)
select 'handoff:' || %(connection)s || '/' || %(feed)s || '/' || %(vendor_id)s, %(connection)s, %(feed)s, %(vendor_id)s,
       'dead_letter', max(page_id), %(payload)s, array[%(code)s],
       jsonb_build_array(jsonb_build_object('code', %(code)s::text, 'path', 'handoff')), 'handoff-1'
from dead having count(*) > 0
on conflict (key) do update
set status = 'open', raw = excluded.raw, page_id = excluded.page_id, codes = excluded.codes, problems = excluded.problems,
    times_seen = q.times_seen + 1, last_seen = clock_timestamp(), resolved_at = null

-- name: lost
-- Applied, but neither handed on nor given up nor waiting: an effect that never happened. Of a row without a hash (a repair took it
-- away, once, and was not finished) nothing can be said. `vendor_id` null: of all.
select r.vendor_id, r.modified_at, r.content_hash, r.page_id from {target} r
where r.connection = %(connection)s and r.feed = %(feed)s and r.content_hash <> ''
  and (%(vendor_id)s::text is null or r.vendor_id = %(vendor_id)s)
  and not exists (select 1 from sync.handoff h where h.connection = r.connection and h.feed = r.feed
                  and h.vendor_id = r.vendor_id and h.content_hash = r.content_hash)
  and not exists (select 1 from sync.outbox o where o.connection = r.connection and o.feed = r.feed
                  and o.vendor_id = r.vendor_id)

-- name: keep_version
-- Until the transaction ends no other version of the row is applied, so none comes to the outbox.
select 1 from {target} r
where r.connection = %(connection)s and r.feed = %(feed)s and r.vendor_id = %(vendor_id)s for share

-- name: queue_dead
insert into sync.outbox (connection, feed, vendor_id, modified_at, content_hash, page_id, table_name, status, error_code)
values (%(connection)s, %(feed)s, %(vendor_id)s, %(modified_at)s, %(content_hash)s, %(page_id)s, %(table)s, 'waiting', null)
returning id

-- name: revive
with chosen as (
  select key, connection, feed, vendor_id from sync.quarantine
  where kind = 'dead_letter' and status = 'open' and key like 'handoff:%%'
    and (%(connection)s::text is null or connection = %(connection)s)
    and (%(feed)s::text is null or feed = %(feed)s)
    and (%(code)s::text is null or %(code)s = any(codes))
    and (%(contract_version)s::text is null or contract_version = %(contract_version)s)
    and (%(keys)s::text[] is null or key = any(%(keys)s))
), woken as (
  update sync.outbox o set status = 'waiting', attempts = 0, failures = 0, error_code = null, next_attempt_at = clock_timestamp()
  from chosen c
  where o.connection = c.connection and o.feed = c.feed and o.vendor_id = c.vendor_id and o.status = 'dead'
)
update sync.quarantine q set status = 'replayed', resolved_at = clock_timestamp(), attempts = attempts + 1
from chosen c where q.key = c.key returning q.key
