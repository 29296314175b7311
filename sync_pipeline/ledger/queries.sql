-- name: begin
-- Bad plans cost more than they may save here: an un-analyzed stage makes the planner scan the whole canonical table.
-- For the same reason rows are looked up by LATERAL ... LIMIT, scalar subqueries and = ANY (ARRAY ...) below: none of
-- them can be turned into a join over a whole feed.
select pg_advisory_xact_lock(hashtextextended(%(lock)s, 0)),
       set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('enable_seqscan', 'off', true)

-- name: holds_lease
select 1 from sync.feed_state where connection = %(connection)s and feed = %(feed)s and fence = %(fence)s

-- name: still_landed
select id from sync.page where id = any(%(pages)s) and status = 'landed'

-- name: create_stage
create temp table if not exists {stage} (
  page_id bigint not null, vendor_id text not null, parent text,
  modified_at timestamptz not null, content_hash bytea not null, {definitions}
) on commit delete rows

-- name: clear_stage
truncate {stage}

-- name: copy_stage
copy {stage} (parent, page_id, modified_at, content_hash, vendor_id, {columns}) from stdin

-- name: unknown
-- Of none of these ids anything is known: no row, nothing that waits for its parent, nothing in quarantine that may be cured.
select not exists (select 1 from {target} t
                   where t.connection = %(connection)s and t.feed = %(feed)s and t.vendor_id = any(%(ids)s::text[]))
   and not exists (select 1 from sync.held h
                   where h.connection = %(connection)s and h.feed = %(feed)s and h.vendor_id = any(%(ids)s::text[]))
   and not exists (select 1 from sync.quarantine q
                   where q.connection = %(connection)s and q.feed = %(feed)s and q.status = 'open'
                     and q.vendor_id = any(%(ids)s::text[]))

-- name: copy_new
copy {target} (connection, feed, contract_version, page_id, modified_at, content_hash, vendor_id, {columns}) from stdin

-- name: hand_on
insert into sync.outbox (connection, feed, vendor_id, modified_at, content_hash, page_id, table_name)
select connection, feed, vendor_id, modified_at, content_hash, page_id, %(table)s from {target}
where connection = %(connection)s and feed = %(feed)s and vendor_id = any(%(ids)s::text[])

-- name: apply_stage
-- The stage holds each vendor id once. The rows travel with their outcome: joining the stage to it again would be a nested
-- loop over all pairs.
with claimed as materialized (
  -- What waits is locked before anything is written, and in one order: a parent's transaction releases it under a lock of its own.
  select h.vendor_id from sync.held h
  where h.connection = %(connection)s and h.feed = %(feed)s and h.vendor_id = any(array(select vendor_id from {stage}))
    and (select true from sync.held where connection = %(connection)s and feed = %(feed)s order by vendor_id limit 1)
  order by h.feed, h.vendor_id for update
), classed as materialized (
  select s.*, case
      when t.vendor_id is null then
        case when s.parent is null or (
            select true from {target} p
            where p.connection = %(connection)s and p.feed = %(parent_feed)s and p.vendor_id = s.parent limit 1)
          then 'applied' else 'held' end
      when t.content_hash = s.content_hash and t.modified_at >= s.modified_at
        -- Its values are not what the hash says. Another version that has come since then is trusted.
        and (t.vendor_id, t.modified_at, t.page_id, t.content_hash) not in (
            select * from unnest(%(distrusted)s::text[], %(stamps)s::timestamptz[], %(shown_on)s::bigint[], %(hashes)s::bytea[]))
        then 'unchanged'
      when t.modified_at > s.modified_at then 'superseded'
      when t.modified_at = s.modified_at and t.page_id <> s.page_id and sync.shown_later(t.page_id, s.page_id) then 'superseded'
      else 'applied' end as outcome
  from {stage} s
  left join lateral (
    select vendor_id, content_hash, modified_at, page_id from {target}
    where connection = %(connection)s and feed = %(feed)s and vendor_id = s.vendor_id limit 1) t on true
  where (select count(*) from claimed) >= 0
), written as (
  insert into {target} as t
    (connection, feed, vendor_id, {columns}, modified_at, content_hash, page_id, contract_version)
  select %(connection)s, %(feed)s, s.vendor_id, {stage_columns}, s.modified_at, s.content_hash, s.page_id,
         %(contract_version)s
  from classed s
  where s.outcome = 'applied'
  on conflict (connection, feed, vendor_id) do update
  set {assignments}, modified_at = excluded.modified_at, content_hash = excluded.content_hash,
      page_id = excluded.page_id, contract_version = excluded.contract_version, applied_at = clock_timestamp()
  -- The row may have come since `classed` looked: a parent's transaction releases a held version under a lock of its own.
  where t.modified_at < excluded.modified_at
     or (t.modified_at = excluded.modified_at
         and (t.page_id = excluded.page_id or not sync.shown_later(t.page_id, excluded.page_id)))
  returning vendor_id, modified_at, content_hash, page_id
), handed as (
  insert into sync.outbox (connection, feed, vendor_id, modified_at, content_hash, page_id, table_name)
  select %(connection)s, %(feed)s, vendor_id, modified_at, content_hash, page_id, %(table)s
  from written where %(handoff)s
), no_longer_held as (
  -- A newer version goes on waiting, whatever older one is in the table now.
  delete from sync.held h
  where h.connection = %(connection)s and h.feed = %(feed)s and h.vendor_id = any(array(select vendor_id from written))
    and (select h.modified_at < w.modified_at or (h.modified_at = w.modified_at and not sync.shown_later(h.page_id, w.page_id))
         from written w where w.vendor_id = h.vendor_id)
), waiting as (
  insert into sync.held as h (connection, feed, vendor_id, parent_feed, parent_id, page_id, modified_at, content_hash,
                              contract_version, table_name, row_data)
  select %(connection)s, %(feed)s, s.vendor_id, %(parent_feed)s, s.parent, s.page_id, s.modified_at, s.content_hash,
         %(contract_version)s, %(table)s,
         (to_jsonb(s) - array['parent', 'outcome']) || jsonb_build_object('connection', %(connection)s::text,
           'feed', %(feed)s::text, 'contract_version', %(contract_version)s::text)
  from classed s
  where s.outcome = 'held'
  on conflict (connection, feed, vendor_id) do update
  set parent_id = excluded.parent_id, page_id = excluded.page_id, modified_at = excluded.modified_at,
      content_hash = excluded.content_hash, contract_version = excluded.contract_version, row_data = excluded.row_data,
      -- Another parent has its own time to come.
      held_at = case when h.parent_id = excluded.parent_id then h.held_at else clock_timestamp() end
  where h.modified_at < excluded.modified_at
     or (h.modified_at = excluded.modified_at and not sync.shown_later(h.page_id, excluded.page_id)
         and (h.content_hash, h.parent_id) is distinct from (excluded.content_hash, excluded.parent_id))
)
select page_id, outcome, count(*)::integer
from (select page_id, outcome from classed where outcome <> 'applied'
      union all
      select page_id, 'applied' from written
      union all
      (select page_id, 'superseded' from classed where outcome = 'applied'
       except all
       select page_id, 'superseded' from written)) judged
group by page_id, outcome

-- name: quarantine_cured
-- An orphan's dead letter ends when the orphan is in the table and nothing newer of it waits.
update sync.quarantine q set status = %(resolution)s, resolved_at = clock_timestamp()
where q.connection = %(connection)s and q.feed = %(feed)s and q.status = 'open'
  and q.vendor_id = any(array(select vendor_id from {stage}))
  and case when q.kind = 'quarantine' then true when q.key like 'orphan:%%' then
        (select true from {target} t
         where t.connection = q.connection and t.feed = q.feed and t.vendor_id = q.vendor_id limit 1)
        and not exists (select 1 from sync.held h
                        where h.connection = q.connection and h.feed = q.feed and h.vendor_id = q.vendor_id)
      end
  and (select true from {stage} s where s.vendor_id = q.vendor_id and not sync.shown_later(q.page_id, s.page_id) limit 1)

-- name: release_held
with claimed as materialized (
  -- In the order in which `apply_stage` locks them.
  select h.connection, h.feed, h.vendor_id from sync.held h
  where h.connection = %(connection)s and h.parent_feed = %(feed)s and h.table_name = %(table)s
    and (select true from {target} p
         where p.connection = h.connection and p.feed = h.parent_feed and p.vendor_id = h.parent_id limit 1)
  order by h.feed, h.vendor_id for update of h
), released as (
  delete from sync.held h using claimed c
  where h.connection = c.connection and h.feed = c.feed and h.vendor_id = c.vendor_id
  returning h.*
), written as (
  insert into {target} as t
  select (jsonb_populate_record(null::{target},
            r.row_data || jsonb_build_object('applied_at', clock_timestamp()))).*
  from released r order by r.feed, r.vendor_id
  on conflict (connection, feed, vendor_id) do update
  set {assignments}, modified_at = excluded.modified_at, content_hash = excluded.content_hash,
      page_id = excluded.page_id, contract_version = excluded.contract_version, applied_at = clock_timestamp()
  where t.modified_at < excluded.modified_at
     or (t.modified_at = excluded.modified_at and t.content_hash <> excluded.content_hash
         and sync.shown_later(excluded.page_id, t.page_id))
  returning connection, feed, vendor_id, modified_at, content_hash, page_id
), handed as (
  insert into sync.outbox (connection, feed, vendor_id, modified_at, content_hash, page_id, table_name)
  select connection, feed, vendor_id, modified_at, content_hash, page_id, %(table)s
  from written where feed = any(%(handoff_feeds)s)
), found as (
  update sync.quarantine set status = 'replayed', resolved_at = clock_timestamp(), attempts = attempts + 1
  where key = any(array(select 'orphan:' || connection || '/' || feed || '/' || vendor_id from released)) and status = 'open'
)
select feed, count(*)::integer from written group by feed

-- name: expire_held
-- An orphan stays held: its parent may still come, and then it is released from here. Nor is it one for as long as the parents'
-- feed has not stood at its horizon since its time was over: in an outage nobody's parent comes.
with expired as (
  select *, 'orphan:' || connection || '/' || feed || '/' || vendor_id as letter from sync.held h
  where connection = %(connection)s and held_at < clock_timestamp() - make_interval(secs => %(ttl)s)
    and not exists (select 1 from sync.feed_state f
                    where f.connection = h.connection and f.feed = h.parent_feed
                      and (f.caught_up_at is null or f.caught_up_at < h.held_at + make_interval(secs => %(ttl)s)))
)
insert into sync.quarantine as q (key, connection, feed, vendor_id, kind, page_id, raw, codes, problems,
                                  contract_version)
select letter, connection, feed, vendor_id, 'dead_letter', page_id,
       convert_to(row_data::text, 'UTF8'), array['ORPHAN'], '[{"code": "ORPHAN", "path": "parent"}]',
       contract_version
from expired e
where not exists (select 1 from sync.quarantine d
                  where d.key = e.letter and d.page_id = e.page_id and d.status in ('open', 'discarded'))
on conflict (key) do update
set status = 'open', raw = excluded.raw, page_id = excluded.page_id, contract_version = excluded.contract_version,
    times_seen = q.times_seen + 1, last_seen = clock_timestamp(), resolved_at = null

-- name: quarantine_put
-- `cured`: the pages that are applied with it show the record valid later. A repair's pages may be older than what is known: a
-- rejection that was followed by a valid showing is closed, and one that was followed by another leaves that as it is.
insert into sync.quarantine as q (key, connection, feed, vendor_id, page_id, raw, codes, problems, contract_version, status,
                                  resolved_at)
select %(key)s, %(connection)s, %(feed)s, %(vendor_id)s, %(page_id)s, %(raw)s, %(codes)s, %(problems)s, %(contract_version)s,
       case when c.cured then %(resolution)s else 'open' end, case when c.cured then clock_timestamp() end
from (select %(cured)s
          or exists (select 1 from {target} t
                     where t.connection = %(connection)s and t.feed = %(feed)s and t.vendor_id = %(vendor_id)s
                       and sync.shown_later(t.page_id, %(page_id)s))
          or exists (select 1 from sync.held h
                     where h.connection = %(connection)s and h.feed = %(feed)s and h.vendor_id = %(vendor_id)s
                       and sync.shown_later(h.page_id, %(page_id)s)) as cured) c
on conflict (key) do update
set page_id = excluded.page_id, codes = excluded.codes, problems = excluded.problems,
    contract_version = excluded.contract_version, times_seen = q.times_seen + 1, last_seen = clock_timestamp(),
    status = case when q.status = 'discarded' and q.raw = excluded.raw then q.status else excluded.status end,
    resolved_at = case when q.status = 'discarded' and q.raw = excluded.raw then q.resolved_at else excluded.resolved_at end,
    raw = excluded.raw
where not sync.shown_later(q.page_id, excluded.page_id)

-- name: count_pages
update sync.page p
set status = 'applied', applied_at = clock_timestamp(), contract_version = %(contract_version)s,
    received = c.received, applied = c.applied, unchanged = c.unchanged, superseded = c.superseded,
    held = c.held, quarantined = c.quarantined
from unnest(%(pages)s::bigint[], %(received)s::integer[], %(applied)s::integer[], %(unchanged)s::integer[],
            %(superseded)s::integer[], %(held)s::integer[], %(quarantined)s::integer[])
  as c(page, received, applied, unchanged, superseded, held, quarantined)
where p.id = c.page and p.status = 'landed'

-- name: note_drift
insert into sync.contract_drift as d (connection, feed, path, contract_version)
select %(connection)s, %(feed)s, path, %(contract_version)s from unnest(%(paths)s::text[]) as path
on conflict (connection, feed, path) do update
set last_seen = clock_timestamp(), contract_version = excluded.contract_version

-- name: quarantine_select
select key, connection, feed, vendor_id, kind, page_id, codes, problems, contract_version, status, times_seen, attempts,
       first_seen, last_seen,
       exists (select 1 from registrations.registration r
               where (r.connection, r.feed, r.vendor_id) = (q.connection, q.feed, q.vendor_id)
                 and sync.shown_later(q.page_id, r.page_id))
from sync.quarantine q
where (%(connection)s::text is null or connection = %(connection)s)
  and (%(feed)s::text is null or feed = %(feed)s)
  and (%(status)s::text is null or status = %(status)s)
  and (%(kind)s::text is null or kind = %(kind)s)
  and (%(code)s::text is null or %(code)s = any(codes))
  and (%(contract_version)s::text is null or contract_version = %(contract_version)s)
  and (%(keys)s::text[] is null or key = any(%(keys)s))
order by first_seen, key
limit %(limit)s

-- name: quarantine_raw
select raw from sync.quarantine where key = %(key)s

-- name: quarantine_lock
select q.key, q.raw, q.page_id from sync.quarantine q left join sync.page p on p.id = q.page_id
where q.key = any(%(keys)s) and q.status = 'open' order by p.shown_at, q.page_id for update of q

-- name: quarantine_resolve
-- Only what was looked at: a later showing of the same record has the same key, and its own page.
update sync.quarantine set status = %(status)s, resolved_at = clock_timestamp(), attempts = attempts + 1
where (key, page_id) in (select * from unnest(%(keys)s::text[], %(pages)s::bigint[])) and status = 'open' returning key

-- name: give_up
-- The refused versions of discarded dead letters are settled as if they had been handed on: left in the outbox they would hold
-- up what comes after them, and without a trace they would be found lost.
with gone as (
  delete from sync.outbox o using sync.quarantine q
  where q.key = any(%(keys)s) and q.key like 'handoff:%%' and o.status = 'dead'
    and o.connection = q.connection and o.feed = q.feed and o.vendor_id = q.vendor_id
  returning o.*
)
insert into sync.handoff as h (connection, feed, vendor_id, modified_at, content_hash, given_up)
select distinct on (connection, feed, vendor_id) connection, feed, vendor_id, modified_at, content_hash, true
from gone order by connection, feed, vendor_id, id desc
on conflict (connection, feed, vendor_id) do update
set modified_at = excluded.modified_at, content_hash = excluded.content_hash, given_up = true,
    handed_at = clock_timestamp()

-- name: quarantine_again
update sync.quarantine set attempts = attempts + 1, codes = %(codes)s, problems = %(problems)s,
  contract_version = %(contract_version)s where key = %(key)s and page_id = %(page_id)s and status = 'open'

-- name: compare_stage
-- An older stamp with the same values is no difference, and a row applied since the listing `began` may be of a version that the
-- vendor made after it showed the page.
select s.vendor_id, s.page_id, s.modified_at,
       case when t.vendor_id is null then 'missing_in_store'
            when s.modified_at > t.modified_at then 'stale_in_store'
            when s.modified_at < t.modified_at then 'older_at_vendor'
            else 'altered_in_store' end as cause,
       t.modified_at, t.page_id, t.content_hash
from {stage} s
left join {target} t on t.connection = %(connection)s and t.feed = %(feed)s and t.vendor_id = s.vendor_id
where (t.vendor_id is null and not exists (
         select 1 from sync.held h
         where h.connection = %(connection)s and h.feed = %(feed)s and h.vendor_id = s.vendor_id))
   or s.modified_at > t.modified_at
   or ((s.modified_at = t.modified_at or (s.modified_at < t.modified_at and t.applied_at < %(began)s))
       and ({stage_columns}) is distinct from ({target_columns}))

-- name: unseen
select vendor_id, modified_at from {target}
where connection = %(connection)s and feed = %(feed)s and modified_at >= %(start)s and modified_at < %(end)s
  and not vendor_id = any(%(seen)s)

-- name: open_delta
-- A difference that is still open is seen again, not found again.
insert into sync.delta (connection, feed, partition_day, vendor_id, cause, action)
values (%(connection)s, %(feed)s, %(day)s, %(vendor_id)s, %(cause)s, %(action)s)
on conflict (connection, feed, vendor_id, cause) where not verified do update
set last_seen = clock_timestamp(), partition_day = excluded.partition_day, action = excluded.action

-- name: verified_delta
-- One that was left open by an earlier run is the same one: its row is closed, and no second one counts it again.
with closed as (
  update sync.delta
  set verified = true, repaired_at = clock_timestamp(), last_seen = clock_timestamp(), partition_day = %(day)s,
      action = %(action)s
  where connection = %(connection)s and feed = %(feed)s and vendor_id = %(vendor_id)s and cause = %(cause)s and not verified
  returning 1
)
insert into sync.delta (connection, feed, partition_day, vendor_id, cause, action, repaired_at, verified)
select %(connection)s, %(feed)s, %(day)s, %(vendor_id)s, %(cause)s, %(action)s, clock_timestamp(), true
where not exists (select 1 from closed)

-- name: settle_deltas
update sync.delta set verified = true, repaired_at = coalesce(repaired_at, clock_timestamp())
where connection = %(connection)s and feed = %(feed)s and not verified
  and (partition_day >= %(start)s and partition_day < %(end)s or partition_day = any(%(also)s::date[])
       or cause = any(%(everywhere)s))
  and (vendor_id, cause) not in (select * from unnest(%(still)s::text[], %(causes)s::text[]))
