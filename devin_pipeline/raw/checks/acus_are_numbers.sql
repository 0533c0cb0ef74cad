-- ACUs come as JSON numbers; written as text they are read all the same, but the API has changed.
select
    day,
    sum(versions)::bigint as versions
from payload_shapes
where acus_are_text
group by day
order by day
