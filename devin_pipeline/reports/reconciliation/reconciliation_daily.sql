-- One row per day whose bill was asked for and organization, with `(enterprise)` for all and `(no organization)` for
-- what the organizations leave of it.
--
-- Other than tables it reads `_asked_days` (whose bill was asked for), `_read_days` (whose sessions are read),
-- `_refusals` (403 and 404 of the API, by table and name) and `_facts` (one row: the `first_open_day`, the
-- `organization` if only one is read, and `session_products`).
with
asked_days as (
    select distinct
        _asked_days.day,
        _facts.organization,
        _asked_days.day < _facts.first_open_day as is_closed
    from _asked_days
    cross join _facts
),

-- Empty days before the first session show that there is none before them. If the lake begins with a day that has
-- sessions, nothing does: there may be earlier ones that DEVIN_START_DATE cuts off.
first_sessions as (
    select coalesce(min(day), 'infinity'::date) as day
    from sessions
),

beginnings as (
    select max(_read_days.day) as last_empty_day
    from _read_days
    cross join first_sessions
    where _read_days.day < first_sessions.day
),

histories as (
    select
        asked_days.day,
        count(distinct _read_days.day) >= any_value(
            -- guard: days before the first session taken for gaps | least(35, -> least(35, 35 +
            least(35, coalesce(asked_days.day - beginnings.last_empty_day - 1, 35))
        ) as is_complete
    from asked_days
    cross join beginnings
    left join _read_days
        on
            _read_days.day between asked_days.day - 35 and asked_days.day - 1
            and _read_days.day > coalesce(beginnings.last_empty_day, '-infinity'::date)
    group by asked_days.day
),

bills as (
    select
        consumption_daily.day,
        case when consumption_daily.scope = 'enterprise' then '(enterprise)' else consumption_daily.scope_id end
            as org_id,
        sum(consumption_daily.acus) as billed,
        coalesce(
            sum(consumption_daily.acus) filter (
                where
                not list_contains(_facts.session_products, consumption_daily.product)
                and consumption_daily.product not in ('(all)', '(unsplit)')
            ),
            0
        ) as billed_without_sessions,
        coalesce(
            sum(consumption_daily.acus) filter (
                where list_contains(_facts.session_products, consumption_daily.product)
            ),
            0
        ) as billed_with_sessions,
        coalesce(sum(consumption_daily.acus) filter (where consumption_daily.product = '(unsplit)'), 0)
            as billed_unsplit,
        bool_or(consumption_daily.product = '(all)') as has_no_split
    from consumption_daily
    cross join _facts
    where
        consumption_daily.day in (select day from asked_days)
        and (
            case
                when _facts.organization is null then consumption_daily.scope in ('enterprise', 'organization')
                else consumption_daily.scope = 'organization' and consumption_daily.scope_id = _facts.organization
            end
        )
    group by consumption_daily.day, consumption_daily.scope, consumption_daily.scope_id
),

consumed as (
    select
        session_acus_by_day.consumed_day as day,
        sessions.org_id,
        sum(session_acus_by_day.acus) as session_acus,
        coalesce(sum(session_acus_by_day.acus) filter (where sessions.parent_session_id is not null), 0)
            as child_session_acus
    from session_acus_by_day
    left join sessions
        on session_acus_by_day.day = sessions.day and session_acus_by_day.session_id = sessions.session_id
    where session_acus_by_day.consumed_day in (select day from asked_days)
    group by session_acus_by_day.consumed_day, sessions.org_id
),

created as (
    select
        day,
        org_id,
        count(*) as sessions,
        count(*) filter (where acus = 0) as sessions_of_no_acus,
        count(*) filter (where acus is null) as sessions_with_unknown_acus
    from sessions
    where day in (select day from asked_days)
    group by day, org_id
),

-- Per day and organization, that of no name included.
worked as (
    select
        coalesce(consumed.day, created.day) as day,
        coalesce(consumed.org_id, created.org_id) as org_id,
        consumed.day is not null as has_consumed,
        coalesce(consumed.session_acus, 0) as session_acus,
        coalesce(consumed.child_session_acus, 0) as child_session_acus,
        coalesce(created.sessions, 0) as sessions,
        coalesce(created.sessions_of_no_acus, 0) as sessions_of_no_acus,
        coalesce(created.sessions_with_unknown_acus, 0) as sessions_with_unknown_acus
    from consumed
    full outer join created on consumed.day = created.day and consumed.org_id is not distinct from created.org_id
),

worked_by_entity as (
    select *
    from worked
    where org_id is not null
    union all by name
    select
        day,
        '(enterprise)' as org_id,
        bool_or(has_consumed) as has_consumed,
        sum(session_acus) as session_acus,
        sum(child_session_acus) as child_session_acus,
        sum(sessions)::bigint as sessions,
        sum(sessions_of_no_acus)::bigint as sessions_of_no_acus,
        sum(sessions_with_unknown_acus)::bigint as sessions_with_unknown_acus
    from worked
    group by day
),

refusals as (
    select
        case when name = 'enterprise' then '(enterprise)' else nullif(name[len('organization/') + 1:], '') end
            as org_id,
        bool_or(status = 403) as is_refused,
        bool_or(status = 404) as is_missing
    from _refusals
    where
        table_name = 'raw_consumption'
        and (name in ('enterprise', 'organization') or starts_with(name, 'organization/'))
    group by name
),

-- Of all organizations, whichever they are.
refusals_of_all as (
    select
        coalesce(bool_or(is_refused), false) as is_refused,
        coalesce(bool_or(is_missing), false) as is_missing
    from refusals
    where org_id is null
),

named as (
    select
        day,
        org_id
    from bills
    union
    select
        day,
        org_id
    from worked
    where has_consumed
    union
    select
        asked_days.day,
        refusals.org_id
    from asked_days
    cross join refusals
),

entities as (
    select
        day,
        coalesce(organization, '(enterprise)') as org_id
    from asked_days
    union
    select
        named.day,
        named.org_id
    from named
    cross join _facts
    where named.org_id is not null and _facts.organization is null
),

judged_bills as (
    select
        entities.day,
        entities.org_id,
        bills.billed,
        bills.billed_without_sessions,
        bills.billed_with_sessions,
        bills.billed_unsplit,
        coalesce(bills.has_no_split, false) as has_no_split,
        coalesce(refusals.is_refused, false) or (entities.org_id <> '(enterprise)' and refusals_of_all.is_refused)
            as is_refused,
        bills.org_id is null
        or coalesce(refusals.is_missing, false)
        or (entities.org_id <> '(enterprise)' and refusals_of_all.is_missing) as is_missing,
        coalesce(worked_by_entity.session_acus, 0) as session_acus,
        coalesce(worked_by_entity.child_session_acus, 0) as child_session_acus,
        coalesce(worked_by_entity.sessions, 0) as sessions,
        coalesce(worked_by_entity.sessions_of_no_acus, 0) as sessions_of_no_acus,
        coalesce(worked_by_entity.sessions_with_unknown_acus, 0) as sessions_with_unknown_acus
    from entities
    cross join refusals_of_all
    left join bills on entities.day = bills.day and entities.org_id = bills.org_id
    left join worked_by_entity
        on entities.day = worked_by_entity.day and entities.org_id = worked_by_entity.org_id
    left join refusals on entities.org_id = refusals.org_id
),

organizations_of_day as (
    select
        day,
        bool_or(is_refused) as is_refused,
        bool_or(has_no_split) filter (where not is_missing) as has_no_split,
        bool_or(billed is null) filter (where not is_missing) as is_unknown,
        sum(billed) filter (where not is_missing) as billed,
        sum(billed_without_sessions) filter (where not is_missing) as billed_without_sessions,
        sum(billed_with_sessions) filter (where not is_missing) as billed_with_sessions,
        sum(billed_unsplit) filter (where not is_missing) as billed_unsplit,
        -- Where an organization has no bill, what its sessions consumed stays with what is billed to none. So the
        -- rows with a bill add up to the enterprise.
        -- guard: sessions of an organization without a bill
        --   | filter (where is_refused or not is_missing) -> filter (where true)
        sum(session_acus) filter (where is_refused or not is_missing) as session_acus,
        sum(child_session_acus) filter (where is_refused or not is_missing) as child_session_acus,
        sum(sessions_with_unknown_acus) filter (where is_refused or not is_missing) as sessions_with_unknown_acus
    from judged_bills
    where org_id <> '(enterprise)'
    group by day
),

all_bills as (
    select
        day,
        org_id,
        billed,
        billed_without_sessions,
        billed_with_sessions,
        billed_unsplit,
        has_no_split,
        is_refused,
        is_missing,
        session_acus,
        child_session_acus,
        sessions_with_unknown_acus
    from judged_bills
    union all by name
    select
        enterprise.day,
        '(no organization)' as org_id,
        case
            when not coalesce(organizations.is_unknown, false)
                then enterprise.billed - coalesce(organizations.billed, 0)
        end as billed,
        enterprise.billed_without_sessions - coalesce(organizations.billed_without_sessions, 0)
            as billed_without_sessions,
        enterprise.billed_with_sessions - coalesce(organizations.billed_with_sessions, 0) as billed_with_sessions,
        enterprise.billed_unsplit - coalesce(organizations.billed_unsplit, 0) as billed_unsplit,
        enterprise.has_no_split or coalesce(organizations.has_no_split, false) as has_no_split,
        -- guard: a remainder of a bill of which a part is refused
        --   | or coalesce(organizations.is_refused, false) or refusals_of_all.is_refused
        enterprise.is_refused or coalesce(organizations.is_refused, false) or refusals_of_all.is_refused as is_refused,
        enterprise.is_missing,
        enterprise.session_acus - coalesce(organizations.session_acus, 0) as session_acus,
        enterprise.child_session_acus - coalesce(organizations.child_session_acus, 0) as child_session_acus,
        enterprise.sessions_with_unknown_acus - coalesce(organizations.sessions_with_unknown_acus, 0)
            as sessions_with_unknown_acus
    from judged_bills as enterprise
    cross join refusals_of_all
    left join organizations_of_day as organizations on enterprise.day = organizations.day
    where enterprise.org_id = '(enterprise)'
),

-- All ACUs of the day's sessions are 0 though the bill has some: what should count them does not.
broken_days as (
    select judged_bills.day
    from judged_bills
    inner join asked_days
        on
            judged_bills.day = asked_days.day
            and judged_bills.org_id = coalesce(asked_days.organization, '(enterprise)')
    where
        judged_bills.sessions > 0
        -- guard: unknown ACUs taken for none
        --   | judged_bills.sessions_of_no_acus
        --   -> judged_bills.sessions_of_no_acus + judged_bills.sessions_with_unknown_acus
        and judged_bills.sessions_of_no_acus = judged_bills.sessions
        and judged_bills.session_acus = 0
        and judged_bills.billed_with_sessions > 0
        and not (judged_bills.is_refused or judged_bills.is_missing or judged_bills.has_no_split)
),

readable_bills as (
    select
        all_bills.day,
        all_bills.org_id,
        asked_days.is_closed,
        not all_bills.is_refused and not all_bills.is_missing as has_bill,
        has_bill and not all_bills.has_no_split as has_split,
        case when has_bill then all_bills.billed end as billed,
        case when has_split then all_bills.billed_without_sessions end as without_sessions,
        case when has_split then all_bills.billed_with_sessions end as with_sessions,
        case when has_split then all_bills.billed_unsplit when has_bill then all_bills.billed end as unsplit,
        all_bills.session_acus,
        all_bills.child_session_acus,
        all_bills.sessions_with_unknown_acus,
        has_split and asked_days.is_closed and broken_days.day is not null and all_bills.billed_with_sessions <> 0
            as is_broken,
        -- guard: statuses in their order | when all_bills.is_refused then 'not_permitted'
        case
            when all_bills.is_refused then 'not_permitted'
            when all_bills.is_missing then 'no_bill'
            when all_bills.has_no_split then 'no_split'
            when not asked_days.is_closed then 'provisional'
            when is_broken then 'source_broken'
        end as status
    from all_bills
    inner join asked_days on all_bills.day = asked_days.day
    left join broken_days on all_bills.day = broken_days.day
),

residuals as (
    select
        * exclude (with_sessions),
        -- Wide enough to be multiplied.
        with_sessions::decimal(38, 6) as with_sessions,
        (case when not is_broken then with_sessions - session_acus end)::decimal(38, 6) as residual
    from readable_bills
)

select
    residuals.day,
    residuals.org_id,
    residuals.billed as billed_acus,
    residuals.without_sessions as billed_acus_of_products_without_sessions,
    residuals.with_sessions as billed_acus_of_products_with_sessions,
    residuals.unsplit as billed_acus_unsplit,
    case when not residuals.is_broken then residuals.session_acus end as session_acus,
    residuals.sessions_with_unknown_acus::bigint as sessions_with_unknown_acus,
    case when not residuals.is_broken then residuals.child_session_acus end as child_session_acus,
    residuals.residual as residual_acus,
    case
        -- A greater share has no place in the column.
        when abs(residuals.residual) < 999999999999 * abs(residuals.with_sessions)
            then
                exact_ratio(
                    abs(residuals.residual) * 1000000, (abs(residuals.with_sessions) * 1000000)::hugeint
                )
                * (sign(residuals.residual) * sign(residuals.with_sessions))
    end as residual_share,
    residuals.is_closed,
    histories.is_complete as history_is_complete,
    case
        when residuals.status is not null then residuals.status
        when abs(residuals.residual) <= 0.000001 then 'exact'
        -- Of the amounts, as a rounded share may lie on the other side. Nothing billed explains no residual.
        -- guard: bounds of the rounded share
        --   | abs(residuals.residual) * 100 <= abs(residuals.with_sessions)
        --   -> round(residuals.residual / residuals.with_sessions, 6) between -0.01 and 0.01
        when abs(residuals.residual) * 100 <= abs(residuals.with_sessions) then 'within_1_percent'
        when abs(residuals.residual) * 20 <= abs(residuals.with_sessions) then 'within_5_percent'
        else 'unexplained'
    end as status
from residuals
inner join histories on residuals.day = histories.day
order by residuals.day, residuals.org_id
