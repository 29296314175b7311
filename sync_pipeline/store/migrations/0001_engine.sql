-- The engine's own tables. Canonical tables belong to their domain's schema.
create schema if not exists sync;

create table sync.feed_state (
  connection text not null,
  feed text not null,
  cursor jsonb not null default '{}',
  cursor_version bigint not null default 0,
  lease_owner text,
  fence bigint not null default 0,
  lease_expires timestamptz,
  watermark timestamptz,                 -- copy of cursor.watermark, for SQL
  caught_up_at timestamptz,              -- last time a window closed, i.e. the feed stood at its horizon
  last_poll_at timestamptz,
  next_due timestamptz,
  deferred_until timestamptz,
  deferred_reason text,
  last_error text,                       -- class and message; messages hold no values
  last_error_at timestamptz,
  paused boolean not null default false,
  primary key (connection, feed)
);

create table sync.page (
  id bigint generated always as identity primary key,
  connection text not null,
  feed text not null,
  source_feed text not null,             -- the feed whose request brought the page (another one for exploded feeds)
  session text not null,
  sha256 bytea not null,
  object_key text not null,
  bytes bigint not null,
  fetched_at timestamptz not null,
  cursor jsonb not null,                 -- the cursor the request was made from: how to read the page again
  audit_id bigint,
  landed_at timestamptz not null default clock_timestamp(),
  status text not null default 'landed' check (status in ('landed', 'applied')),
  applied_at timestamptz,
  contract_version text,
  received integer not null default 0,
  applied integer not null default 0,
  unchanged integer not null default 0,
  superseded integer not null default 0,
  held integer not null default 0,
  quarantined integer not null default 0,
  constraint conservation check (received = applied + unchanged + superseded + held + quarantined)
);
create index page_pending on sync.page (connection, feed, id) where status = 'landed';
create index page_feed on sync.page (connection, feed, id);
create index page_session on sync.page (session);

create table sync.quarantine (
  key text primary key,                  -- deterministic: connection, feed, vendor id (or the raw bytes' hash)
  connection text not null,
  feed text not null,
  vendor_id text,
  kind text not null default 'quarantine' check (kind in ('quarantine', 'dead_letter')),
  page_id bigint not null,
  raw bytea not null,
  codes text[] not null,
  problems jsonb not null,               -- [{"code","path"}], no values
  contract_version text not null,
  status text not null default 'open' check (status in ('open', 'replayed', 'discarded', 'superseded')),
  times_seen integer not null default 1,
  attempts integer not null default 0,
  first_seen timestamptz not null default clock_timestamp(),
  last_seen timestamptz not null default clock_timestamp(),
  resolved_at timestamptz
);
create index quarantine_open on sync.quarantine (connection, feed, status);
create index quarantine_vendor_id on sync.quarantine (connection, feed, vendor_id) where status = 'open';

create table sync.held (
  connection text not null,
  feed text not null,
  vendor_id text not null,
  parent_feed text not null,
  parent_id text not null,
  page_id bigint not null,
  modified_at timestamptz not null,
  content_hash bytea not null,
  contract_version text not null,
  table_name text not null,
  row_data jsonb not null,
  held_at timestamptz not null default clock_timestamp(),
  primary key (connection, feed, vendor_id)
);
create index held_parent on sync.held (connection, parent_feed, parent_id);

-- Canonical changes leave through here, in order per entity. Rows are deleted once handed off.
create table sync.outbox (
  id bigint generated always as identity primary key,
  connection text not null,
  feed text not null,
  vendor_id text not null,
  modified_at timestamptz not null,
  content_hash bytea not null,
  page_id bigint not null,
  table_name text not null,
  attempts integer not null default 0,
  next_attempt_at timestamptz not null default clock_timestamp(),
  status text not null default 'waiting' check (status in ('waiting', 'dead')),
  error_code text,
  created_at timestamptz not null default clock_timestamp()
);
create index outbox_waiting on sync.outbox (connection, feed, id) where status = 'waiting';
create index outbox_entity on sync.outbox (connection, feed, vendor_id);

create table sync.handoff (                -- idempotency keys handed off, newest version per entity
  connection text not null,
  feed text not null,
  vendor_id text not null,
  modified_at timestamptz not null,
  content_hash bytea not null,
  handed_at timestamptz not null default clock_timestamp(),
  primary key (connection, feed, vendor_id)
);

-- One row per API call attempt. Append-only; endpoint is a template, so it holds no id and no secret.
create table sync.audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  correlation_id text not null,
  connection text not null,
  feed text,
  endpoint text not null,
  method text not null,
  status integer,
  error_class text,
  attempt integer not null,
  waited_ms double precision not null default 0,
  latency_ms double precision,
  bytes bigint,
  payload_hash text,
  lane text not null default 'P2'
);
create index audit_at on sync.audit (connection, at);

create table sync.quota (
  scope text not null,                   -- connection (one credential); a tree of scopes later
  window_name text not null,
  window_limit integer not null,
  window_seconds double precision not null,
  kind text not null,
  burst integer not null,
  tat timestamptz not null default '-infinity',   -- GCRA theoretical arrival time
  window_start timestamptz not null default '-infinity',
  used integer not null default 0,       -- fixed and daily windows
  blocked_until timestamptz,
  remaining_said integer,
  reset_said timestamptz,
  updated_at timestamptz not null default clock_timestamp(),
  primary key (scope, window_name)
);

create table sync.breaker (
  connection text not null,
  scope text not null,                   -- endpoint template, or 'credential'
  state text not null default 'closed' check (state in ('closed', 'open', 'half_open')),
  failures integer not null default 0,
  opened_at timestamptz,
  retry_at timestamptz,
  cool_down_s double precision not null default 0,
  probe_owner text,
  probe_expires timestamptz,
  reason text,
  updated_at timestamptz not null default clock_timestamp(),
  primary key (connection, scope)
);

create table sync.http_validator (
  connection text not null,
  url_key text not null,                 -- hash of the URL: a URL may hold ids
  etag text,
  last_modified text,
  seen_at timestamptz not null default clock_timestamp(),
  primary key (connection, url_key)
);

create table sync.session (
  id text primary key,
  connection text not null,
  started_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz,
  outcome text,
  requests integer not null default 0,
  answers_429 integer not null default 0,
  pages integer not null default 0
);

create table sync.contract_drift (
  connection text not null,
  feed text not null,
  path text not null,
  contract_version text not null,
  first_seen timestamptz not null default clock_timestamp(),
  last_seen timestamptz not null default clock_timestamp(),
  primary key (connection, feed, path)
);

create table sync.delta (
  id bigint generated always as identity primary key,
  connection text not null,
  feed text not null,
  partition_day date,
  vendor_id text not null,
  cause text not null,                   -- missing_in_store, stale_in_store, missing_at_vendor
  action text not null,                  -- repaired, review
  found_at timestamptz not null default clock_timestamp(),
  repaired_at timestamptz,
  verified boolean not null default false
);
create index delta_feed on sync.delta (connection, feed, found_at);
