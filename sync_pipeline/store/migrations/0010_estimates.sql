-- What polls taught of how often a feed changes (polling/estimate.py), and why it is polled when it is.
alter table sync.feed_state add column estimate jsonb, add column calls_a_poll double precision, add column why text;
