-- One row per day, organization and tag ((untagged) when none).
with
tags_in_order as (
    select
        day,
        org_id,
        session_id,
        acus,
        unnest(case when len(tags) = 0 then ['(untagged)'] else tags end) as tag,
        generate_subscripts(case when len(tags) = 0 then ['(untagged)'] else tags end, 1) as place
    from sessions
    where day between $first_day and $last_day
),

distinct_tags as (
    select
        day,
        org_id,
        session_id,
        acus,
        tag,
        min(place) as place
    from tags_in_order
    group by day, org_id, session_id, acus, tag
),

places as (
    select
        *,
        count(*) over (partition by day, session_id) as tags,
        row_number() over (partition by day, session_id order by place) as rank
    from distinct_tags
)

select
    day,
    org_id,
    tag,
    count(*) as sessions,
    sum(acus) as acus_touching,
    sum(exact_share(acus, tags, rank = 1)) as acus_split
from places
group by day, org_id, tag
order by day, org_id, tag
