-- What a feed's lists covered when its cursor was moved: the watermark says nothing of records under another scope.
alter table sync.feed_state
  add column scope text,                 -- fingerprint of the settings, then what the token may read; null: not known yet
  add column restarted_at timestamptz,   -- the last time the feed was started from the beginning by itself
  add column restart_reason text;
