-- How many versions of a day have which fields, and ACUs as text: payloads are parsed once for the checks of both.
select
    day,
    -- What is no JSON has no fields.
    try(json_keys(payload)) as fields,
    -- Most payloads need no parsing to tell.
    case
        when regexp_matches(payload, '"acus_consumed"\s*:\s*"')
            then coalesce(try(json_type(payload, '$.acus_consumed')) = 'VARCHAR', false)
        else false
    end as acus_are_text,
    count(*) as versions
from versions
where is_listed
group by all
