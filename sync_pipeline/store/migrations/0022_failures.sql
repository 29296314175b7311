-- Attempts count an outage's as well. These are a registration's own: it was not taken, and another one was after it.
alter table sync.outbox add column failures integer not null default 0;
