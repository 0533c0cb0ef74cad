-- One row per session whose telling differs from what is known: a new version, or a tombstone. `place` is where the
-- item stands among those read; `is_new` says that its day does not have the session, or lost it to another.
--
-- A tombstone keeps the instants of the last version. A version that another run fetched after this read began wins
-- over it; one from our own future was stamped by a clock that ran ahead, and is followed by the next microsecond.
with
latest as (
    select
        day,
        session_id,
        created_at,
        updated_at,
        content_hash,
        is_listed,
        moved_to,
        fetched_at,
        -- guard: a clock that ran ahead | between $read_at and $now -> >= $read_at and $now is not null
        -- guard: an older run over a newer one | as -> and false as
        fetched_at between $read_at and $now as is_newer,
        -- guard: order of versions after a clock that ran ahead
        --   | greatest($read_at::timestamptz, fetched_at + interval 1 microsecond) -> $read_at::timestamptz
        greatest($read_at::timestamptz, fetched_at + interval 1 microsecond) as next_fetched_at
    from known
    qualify row_number() over (partition by day, session_id order by fetched_at desc) = 1
)

select
    items.day,
    items.session_id,
    items.created_at,
    items.updated_at,
    coalesce(latest.next_fetched_at, $read_at::timestamptz) as fetched_at,
    items.content_hash,
    true as is_listed,
    items.acus,
    items.place,
    null::varchar as redacted,
    null::date as moved_to,
    null::varchar as row_hash,
    (latest.session_id is null or latest.moved_to is not null) as is_new,
    -- Of a version with the same instants, which may say the same in the spelling that its hash was taken of.
    if(
        latest.created_at = items.created_at and latest.updated_at is not distinct from items.updated_at,
        latest.content_hash,
        null
    ) as last_content_hash,
    latest.fetched_at as last_fetched_at
from items
left join latest using (day, session_id)
where
    latest.session_id is null
    -- guard: a session that comes back unchanged
    --   | (not latest.is_listed or latest.content_hash <> items.content_hash)
    --   -> latest.content_hash <> items.content_hash
    or (not latest.is_newer and (not latest.is_listed or latest.content_hash <> items.content_hash))
union all by name
select
    latest.day,
    latest.session_id,
    latest.created_at,
    latest.updated_at,
    latest.next_fetched_at as fetched_at,
    null as content_hash,
    false as is_listed,
    null as acus,
    null as place,
    null as redacted,
    null as moved_to,
    null as row_hash,
    false as is_new,
    null as last_content_hash,
    null as last_fetched_at
from latest
where
    latest.is_listed
    -- guard: a tombstone by an older run | and not latest.is_newer
    and not latest.is_newer
    and not exists (
        select 1 from items
        where items.day = latest.day and items.session_id = latest.session_id
    )
    and not exists (
        select 1 from quarantined
        where
            -- guard: a tombstone for what is quarantined | quarantined.session_id = latest.session_id -> where false
            quarantined.session_id = latest.session_id
            -- An item that could not be read may be any session of its day.
            -- guard: a tombstone for what may be unread
            --   | or (quarantined.payload = '' and quarantined.day = latest.day)
            or (quarantined.payload = '' and quarantined.day = latest.day)
    )
order by day, session_id
