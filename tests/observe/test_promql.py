"""What reads queries for the tests, itself."""

from promql import groupings, results, selectors


def test_what_a_query_selects_is_found():
    query = 'sum by (pool, le) (rate(a_bucket{x=~"5..|b", y!="{1}"}[5m])) / on (pool) group_left () c > 0.5 or absent(up{job="k"} offset 5m)'
    found = selectors(query)
    assert [selector.metric for selector in found] == ["a_bucket", "c", "up"]
    assert found[0].matchers == [("x", "=~", "5..|b"), ("y", "!=", "{1}")]
    assert [selector.text for selector in selectors('count({job="k"})')] == ['{job="k"}']


def test_what_a_query_groups_by_is_found():
    query = "topk(10, sum by (pool) (max by (pool, limit) (a)))"
    assert groupings(query) == [({"pool"}, "max by (pool, limit) (a)"), ({"pool", "limit"}, "a")]
    assert results(query) == {"pool"}
    assert results("rate(a[5m])") is None
