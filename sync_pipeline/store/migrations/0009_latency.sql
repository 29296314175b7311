-- How long each endpoint takes to answer: a sketch (gateway/latency.py) and, for readers, its quantiles in seconds.
create table sync.latency (
  connection text not null,
  endpoint text not null,
  sketch bigint[] not null,
  calls bigint not null default 0,
  p50_s double precision not null,
  p95_s double precision not null,
  p99_s double precision not null,
  updated_at timestamptz not null default clock_timestamp(),
  primary key (connection, endpoint)
);
