-- A version that the receiver refused and an operator discarded: settled like one that was handed on, and told apart from it.
alter table sync.handoff add column given_up boolean not null default false;

-- What was discarded before this held up all later changes of its registration.
with gone as (
  delete from sync.outbox o using sync.quarantine q
  where o.status = 'dead' and q.key = 'handoff:' || o.connection || '/' || o.feed || '/' || o.vendor_id
    and q.status = 'discarded'
  returning o.*
)
insert into sync.handoff as h (connection, feed, vendor_id, modified_at, content_hash, given_up)
select distinct on (connection, feed, vendor_id) connection, feed, vendor_id, modified_at, content_hash, true
from gone order by connection, feed, vendor_id, id desc
on conflict (connection, feed, vendor_id) do update
set modified_at = excluded.modified_at, content_hash = excluded.content_hash, given_up = true,
    handed_at = clock_timestamp();
