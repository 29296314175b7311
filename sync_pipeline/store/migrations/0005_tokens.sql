-- One row a credential: the token pair, sealed, and what is known of it. The generation counts pairs; every write names the
-- generation it was made from, so that a worker that lost its lock changes nothing that came after.
create table sync.token (
  credential text primary key,
  generation bigint not null default 0 check (generation >= 0),
  sealed bytea,                           -- AES-GCM: key id, nonce, the pair; bound to this credential and generation
  has_refresh boolean not null default false,
  issued_at timestamptz,
  expires_at timestamptz,
  rejected boolean not null default false,                 -- the vendor answered 401 to this generation
  sent_at timestamptz,                    -- an exchange is under way, or its worker died
  uncertain_since timestamptz,            -- the refresh token may be spent since
  reauthorise_since timestamptz,
  reason text,                            -- the vendor's error code
  retry_at timestamptz,
  failures integer not null default 0,
  mints timestamptz[] not null default '{}',
  updated_at timestamptz not null default clock_timestamp(),
  check ((generation = 0) = (sealed is null))
);
