-- A pretix position's key was event/code/positionid and is event/id, since a split order moves positions to another code. One
-- position under several codes becomes one row again, the newest.
create temp table renamed on commit drop as
select connection, feed, vendor_id as old, event_id || '/' || (metadata ->> 'id') as new,
       row_number() over (partition by connection, feed, event_id, metadata ->> 'id'
                          order by modified_at desc, page_id desc) = 1 as stands
from registrations.registration
where kind = 'attendee' and contract_version like 'pretix-1+%' and metadata ->> 'id' is not null;
create unique index on renamed (connection, feed, old);

delete from registrations.registration r using renamed n
where not n.stands and r.connection = n.connection and r.feed = n.feed and r.vendor_id = n.old;
delete from sync.handoff h using renamed n
where not n.stands and h.connection = n.connection and h.feed = n.feed and h.vendor_id = n.old;

-- The codes that open doors and orders leave `metadata`; the place in the order comes in, since it is no longer in the key.
update registrations.registration r
set vendor_id = n.new, metadata = r.metadata - array['id', 'secret', 'pdf_data']
      || case when split_part(n.old, '/', 3) ~ '^\d{1,9}$'
              then jsonb_build_object('positionid', split_part(n.old, '/', 3)::integer) else '{}' end
from renamed n where r.connection = n.connection and r.feed = n.feed and r.vendor_id = n.old;
update registrations.registration set metadata = metadata - array['secret', 'url']
where kind = 'order' and contract_version = 'pretix-1';
update registrations.registration r set metadata = r.metadata || (
  select jsonb_object_agg(part.name, part.items)
  from (select name, jsonb_agg(case when jsonb_typeof(item) = 'object'
                                 then (item - 'payment_url') #- '{details,gift_card,secret}' else item end order by place) as items
        from unnest(array['payments', 'refunds']) as name,
             lateral jsonb_array_elements(r.metadata -> name) with ordinality as listed(item, place)
        group by name) part)
where kind = 'order' and contract_version = 'pretix-1' and jsonb_typeof(metadata -> 'payments') = 'array'
  and jsonb_typeof(metadata -> 'refunds') = 'array'
  and jsonb_array_length(metadata -> 'payments') + jsonb_array_length(metadata -> 'refunds') > 0;

update sync.handoff h set vendor_id = n.new
from renamed n where h.connection = n.connection and h.feed = n.feed and h.vendor_id = n.old;
update sync.outbox o set vendor_id = n.new
from renamed n where o.connection = n.connection and o.feed = n.feed and o.vendor_id = n.old;
update sync.delta d set vendor_id = n.new
from renamed n where d.connection = n.connection and d.feed = n.feed and d.vendor_id = n.old;
update sync.quarantine q set vendor_id = n.new
from renamed n where q.connection = n.connection and q.feed = n.feed and q.vendor_id = n.old;

-- Rejected positions that have no row: their own record names them (without U+0000, which no text here can hold). What cannot
-- be read keeps its name.
do $$
declare
  rejected record;
  id text;
begin
  for rejected in
    select key, vendor_id, raw from sync.quarantine
    where kind = 'quarantine' and contract_version like 'pretix-1+%' and vendor_id like '%/%/%'
  loop
    begin
      id := replace(convert_from(rejected.raw, 'UTF8'), '\u0000', '')::json ->> 'id';
      update sync.quarantine set vendor_id = split_part(rejected.vendor_id, '/', 1) || '/' || id
      where key = rejected.key and id is not null;
    exception when data_exception then null;
    end;
  end loop;
end $$;

create temp table renamed_held on commit drop as
select connection, feed, vendor_id as old,
       (row_data ->> 'event_id') || '/' || (row_data -> 'metadata' ->> 'id') as new,
       row_number() over (partition by connection, feed, row_data ->> 'event_id', row_data -> 'metadata' ->> 'id'
                          order by modified_at desc, page_id desc) = 1 as stands
from sync.held where contract_version like 'pretix-1+%' and row_data -> 'metadata' ->> 'id' is not null;
delete from sync.held h using renamed_held n
where not n.stands and h.connection = n.connection and h.feed = n.feed and h.vendor_id = n.old;
update sync.held h
set vendor_id = n.new,
    row_data = h.row_data || jsonb_build_object('vendor_id', n.new,
      'metadata', (h.row_data -> 'metadata') - array['id', 'secret', 'pdf_data'])
from renamed_held n where h.connection = n.connection and h.feed = n.feed and h.vendor_id = n.old;

-- An open difference is one row for as long as it is open.
alter table sync.delta add column last_seen timestamptz not null default clock_timestamp();
update sync.delta set last_seen = coalesce(repaired_at, found_at);
update sync.delta d set last_seen = o.last_seen
from (select min(id) as id, max(found_at) as last_seen from sync.delta
      where not verified group by connection, feed, vendor_id, cause) o
where d.id = o.id;
delete from sync.delta d using sync.delta first
where not d.verified and not first.verified and first.id < d.id and first.connection = d.connection
  and first.feed = d.feed and first.vendor_id = d.vendor_id and first.cause = d.cause;
create unique index delta_open on sync.delta (connection, feed, vendor_id, cause) where not verified;
