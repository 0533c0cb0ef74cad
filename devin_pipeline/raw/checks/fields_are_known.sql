-- Items hold the fields the API reference lists and no others; raw keeps what they hold either way.
with
fields as (
    select
        day,
        versions,
        unnest(fields) as field
    from payload_shapes
)

select
    min(day) as day,
    -- A name is the API's text too: shown only when it reads like one.
    case when regexp_full_match(field, '[A-Za-z_][A-Za-z0-9_]{0,63}') then field else '(unprintable)' end as field,
    sum(versions)::bigint as versions
from fields
where field not in (select unnest($known_fields))
group by all
order by field
