-- One row per billing day, whose bill it is, and product.
--
-- DuckDB's JSON functions return a number as a double writes it. So every number becomes a text before they read it,
-- and keeps its digits: `1.50` turns into `"#1.50"`. A text `"1.50"` turns into `"1.50#"`, and the names do likewise.
with
bills as (
    select
        day,
        scope,
        scope_id,
        acus,
        try(
            json(
                regexp_replace(
                    payload, '"((?:[^"\\]|\\.)*)"|(-?(?:[0-9][-+.0-9eE]*|NaN|Infinity))', '"\1#\2"', 'g'
                )
            )
        ) as entry
    from (
        select *
        from raw_consumption
        where day between $first_day and $last_day
        qualify row_number() over (partition by day, scope, scope_id order by fetched_at desc) = 1
    ) as latest_versions
    -- guard: a day that was removed from the bill | where is_listed -> where true
    where is_listed
),

members as (
    select
        bills.day,
        bills.scope,
        bills.scope_id,
        regexp_replace(member.key, '#$', '') as product,
        -- Of a product that is sent twice, the last counts.
        arg_max(member.value, member.id) ->> '$' as sent
    from bills
    cross join lateral json_each(bills.entry, '$."acus_by_product#"') as member
    where json_type(bills.entry, '$."acus_by_product#"') = 'OBJECT'
    group by bills.day, bills.scope, bills.scope_id, member.key
),

products as (
    select
        day,
        scope,
        scope_id,
        product,
        -- Wider than the column: DuckDB reads all digits before it applies the exponent.
        -- guard: a billed amount read as a double
        --   | try_cast(sent[2:] as decimal(38, 6)) -> try_cast(sent[2:]::double as decimal(38, 6))
        try_cast(sent[2:] as decimal(38, 6)) as acus
    from members
    where regexp_full_match(sent, '#-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?')
),

usable_products as (
    select *
    from products
    -- As of a session: more is a mistake, and sums of them would not fit.
    where abs(acus) < 1000000000
),

splits as (
    select
        day,
        scope,
        scope_id,
        sum(acus) as acus
    from usable_products
    group by day, scope, scope_id
),

remainders as (
    select
        bills.day,
        bills.scope,
        bills.scope_id,
        case when splits.acus is null then '(all)' else '(unsplit)' end as product,
        bills.acus - coalesce(splits.acus, 0) as acus
    from bills
    left join splits
        on bills.day = splits.day and bills.scope = splits.scope and bills.scope_id = splits.scope_id
    -- guard: what the products leave of a bill | or bills.acus <> splits.acus -> or false
    where splits.acus is null or bills.acus <> splits.acus
)

select
    day,
    scope,
    scope_id,
    product,
    sum(acus) as acus
from (
    from usable_products
    union all
    from remainders
) as amounts
group by day, scope, scope_id, product
order by day, scope, scope_id, product
