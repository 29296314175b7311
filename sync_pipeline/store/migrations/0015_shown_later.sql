-- When the vendor showed a page, by this server's clock: workers' clocks differ, and ids say only in which order pages were landed,
-- while a repair lands pages that were shown before others which a poll landed meanwhile. A page of a repair was shown when its
-- listing began, at the latest.
alter table sync.page add column shown_at timestamptz;
update sync.page set shown_at = landed_at;
alter table sync.page alter column shown_at set default clock_timestamp(), alter column shown_at set not null;

-- Whether page `one` was shown after page `other`. Among pages of one instant, or that are gone, the id decides.
create function sync.shown_later(one bigint, other bigint) returns boolean language sql stable parallel safe as $$
  select coalesce((select (a.shown_at, a.id) > (b.shown_at, b.id) from sync.page a, sync.page b
                   where a.id = one and b.id = other), one > other)
$$;
