-- What a deferred feed waits for, as who deferred it says: it was guessed from the words of the reason.
alter table sync.feed_state
  add column deferred_for text not null default 'quota' check (deferred_for in ('quota', 'breaker', 'token'));
