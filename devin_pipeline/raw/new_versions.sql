-- One row per object whose content differs from what is known: a new version, or a tombstone. `place` is where the
-- object stands among those read.
--
-- A tombstone keeps the instants of the last version. A version that another run fetched after this read began wins
-- over it; one from our own future was stamped by a clock that ran ahead, and is followed by the next microsecond.
--
-- Python puts columns and conditions that the table declares in place of the words object, whole, kept, differs and
-- more behind a dollar sign.
with
latest as (
    select
        *,
        -- guard: a clock that ran ahead | between $read_at and $now -> >= $read_at and $now is not null
        -- guard: an older run over a newer one | as -> and false as
        fetched_at between $read_at and $now as is_newer,
        -- guard: order of versions after a clock that ran ahead
        --   | greatest($read_at::timestamptz, fetched_at + interval 1 microsecond) -> $read_at::timestamptz
        greatest($read_at::timestamptz, fetched_at + interval 1 microsecond) as next_fetched_at
    from known
    qualify row_number() over (partition by $object order by fetched_at desc) = 1
)

select
    items.*,
    coalesce(latest.next_fetched_at, $read_at::timestamptz) as fetched_at,
    true as is_listed,
    latest.fetched_at as last_fetched_at,
    $more
from items
left join latest using ($object)
where
    latest.fetched_at is null
    or (not latest.is_newer and ($differs))
union all by name
select
    $kept,
    latest.next_fetched_at as fetched_at,
    false as is_listed
from latest
semi join read_whole using ($whole)
anti join items using ($object)
where
    latest.is_listed
    -- guard: a tombstone by an older run | and not latest.is_newer
    and not latest.is_newer
order by $object
