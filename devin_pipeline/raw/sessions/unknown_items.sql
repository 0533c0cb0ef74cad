-- One row per feed, day and content of an item that is not in the quarantine yet.
--
-- An item without a usable creation time is not another item because it was met while other days were read.
select
    day,
    feed,
    fetched_at,
    content_hash,
    reason,
    payload,
    null::varchar as redacted,
    null::varchar as row_hash
from quarantine
where
    not exists (
        select 1 from known
        where
            known.feed = quarantine.feed
            -- guard: one bad item many times
            --   | known.content_hash in (quarantine.content_hash, quarantine.hash_of_before) -> false
            and known.content_hash in (quarantine.content_hash, quarantine.hash_of_before)
            and (known.day = quarantine.day or not quarantine.has_day)
    )
qualify row_number() over (partition by day, feed, content_hash) = 1
