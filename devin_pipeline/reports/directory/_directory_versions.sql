-- One row per version of an entry of a list, as `raw_directory` has it, with a payload that can be read or null.
-- A lone surrogate, which JSON in DuckDB cannot hold, becomes U+FFFD as in the session tables.
select
    kind,
    object_id,
    fetched_at,
    is_listed,
    coalesce(redacted, '') = 'text' as is_blanked,
    arg_max(is_listed, fetched_at) over (partition by kind, object_id) as is_listed_now,
    case
        when json_valid(payload) then payload::json
        when contains(payload, '\u')
            then
                try(
                    array_to_string(
                        [
                            case when regexp_full_match(part, '(?i)\\ud[89a-f].{2}') then '\ufffd' else part end
                            for part
                            in regexp_extract_all(
                                payload, '(?is)\\ud[89ab]..\\ud[c-f]..|\\ud[89a-f][0-9a-f]{2}|\\.|[^\\]+'
                            )
                        ],
                        ''
                    )::json
                )
    end as payload
from raw_directory
