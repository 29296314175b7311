-- Each grant leaves a dead version of its rows behind. Under contention the transactions that wait for a row still see the last
-- of them, so a full page cannot be cleared at once and the next version goes elsewhere: after a minute of two thousand grants
-- a second the two rows of a connection lay among six thousand pages, and a grant took ten times as long. So autovacuum comes
-- whenever it looks, not only after a share of the table has changed, and does not pause.
alter table sync.quota set (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 500,
  autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 1000000
);
