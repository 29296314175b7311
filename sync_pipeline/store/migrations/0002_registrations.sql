create schema if not exists registrations;

create table registrations.registration (
  connection text not null,
  feed text not null,
  vendor_id text not null,
  kind text not null check (kind in ('order', 'attendee')),
  order_id text not null,
  event_id text not null,
  email text not null,
  first_name text not null,
  last_name text not null,
  phone text not null,
  ticket_sku text not null,
  ticket_name text not null,
  tier text not null,
  quantity integer not null,
  amount numeric(18, 4) not null,
  currency text not null,
  payment_status text not null check (payment_status in ('PENDING', 'COMPLETED', 'REFUNDED', 'FAILED')),
  vendor_status text not null,
  checked_in boolean not null,
  test_mode boolean not null,
  locale text not null,
  created_at timestamptz not null,
  metadata jsonb not null,
  modified_at timestamptz not null,
  content_hash bytea not null,
  page_id bigint not null,
  contract_version text not null,
  applied_at timestamptz not null default clock_timestamp(),
  primary key (connection, feed, vendor_id)
);
create index registration_order on registrations.registration (connection, order_id);
create index registration_event on registrations.registration (event_id, tier);
