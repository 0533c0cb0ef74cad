-- ACUs come as JSON numbers; written as text they are read all the same, but the API has changed.
select
    day,
    count(*) as versions
from versions
where
    is_listed
    -- Most payloads need no parsing to tell.
    and regexp_matches(payload, '"acus_consumed"\s*:\s*"')
    and json_valid(payload)
    and json_type(payload, '$.acus_consumed') = 'VARCHAR'
group by day
order by day
