//! Tables of expressions: what they give, why they fail, and what stops them.

use rdd_cel::{Bindings, Budget, Environment, Error, Type, Value, Whole};
use serde_json::{Value as Json, json};

fn environment() -> Environment {
    Environment::new().with("self", Type::Dyn)
}

/// What an expression over `self` gives, compared by CEL itself.
fn check(expression: &str, this: &Json) {
    let program = environment().compile(expression);
    let program = program.unwrap_or_else(|error| panic!("{expression}: {error}"));
    let bindings = Bindings::new().with("self", Value::json(this, None));
    let mut budget = Budget::new(Budget::PER_EXPRESSION);
    match program.evaluate(&bindings, &mut budget) {
        Ok(value) => assert!(value.is_true(), "{expression}: {value:?}"),
        Err(error) => panic!("{expression}: {error}"),
    }
}

fn fails(expression: &str, this: &Json, limit: u64) -> Error {
    let program = environment().compile(expression);
    let program = program.unwrap_or_else(|error| panic!("{expression}: {error}"));
    let bindings = Bindings::new().with("self", Value::json(this, None));
    match program.evaluate(&bindings, &mut Budget::new(limit)) {
        Ok(value) => panic!("{expression}: {value:?}"),
        Err(error) => error,
    }
}

#[test]
fn expressions_give_what_the_specification_says() {
    let this = json!({
        "i": 5, "d": 2.5, "s": "text", "l": [3, 1, 2], "m": {"a": 1, "b": 2}, "n": null,
        "o": {"inner": {"x": "y"}},
    });
    for expression in [
        // Literals.
        "1 == 1 && 0x1F == 31 && -9223372036854775808 < 0",
        "1u == 1u && 1.5 == 15e-1 && .5 == 0.5",
        r#"'a\'b' == "a'b" && 'ü' == '\u00fc' && 'A' == '\x41' && 'A' == '\101'"#,
        r#"r'a\b' == 'a\\b' && '''a'b''' == "a'b" && """a
b""" == 'a\nb'"#,
        r"b'\xff' == b'\377' && b'abc' == bytes('abc') && size(b'ü') == 2",
        "null == null && [] == [] && {} == {}",
        "[1, 2][1] == 2 && {'a': 1}['a'] == 1 && {'a': 1}.a == 1 && [1, 2,] == [1, 2]",
        // Operators.
        "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 7 / 2 == 3 && -7 / 2 == -3 && 7 % 3 == 1",
        "-7 % 3 == -1 && 2.0 * 3.5 == 7.0 && 1u + 2u == 3u && 5.0 / 2.0 == 2.5",
        "'a' + 'b' == 'ab' && [1] + [2] == [1, 2] && b'a' + b'b' == b'ab'",
        "1 < 2 && 'a' < 'b' && 1.0 < 2.0 && false < true && 1 < 1.5 && 2u > 1 && 1 <= 1u",
        "!false && !!true && - -1 == 1",
        "true ? true : false",
        "false || true && true",
        "(1 / 0 == 1 || true) && !(1 / 0 == 1 && false)",
        "1 in [1, 2] && !(3 in [1, 2]) && 'a' in {'a': 1} && 1 in {1: 'x'}",
        "dyn(1) == 1.0 && dyn(1u) == 1 && dyn('1') != 1",
        // Conversions.
        "int('5') == 5 && int(5.9) == 5 && int(5u) == 5 && uint(5) == 5u && double(5) == 5.0",
        "string(5) == '5' && string(true) == 'true' && string(b'abc') == 'abc' && string(1.5) == '1.5'",
        "bool('true') && !bool('0') && type(1) == int && type('a') == string && type(type(1)) == type",
        "size('äöü') == 3 && size([1]) == 1 && size({'a': 1}) == 1 && 'abc'.size() == 3",
        // Input.
        "self.i == 5 && self.d == 2.5 && self.s == 'text' && self.n == null && self.l[0] == 3",
        "has(self.i) && !has(self.zz) && has(self.o.inner.x) && self['i'] == 5",
        "self.m == {'b': 2, 'a': 1} && self.l == [3, 1, 2] && self.m.a + self.m.b == 3",
        // Macros.
        "self.l.all(x, x > 0) && self.l.exists(x, x == 2) && self.l.exists_one(x, x > 2)",
        "self.l.map(x, x * 2) == [6, 2, 4] && self.l.map(x, x > 1, x) == [3, 2]",
        "self.l.filter(x, x < 3) == [1, 2] && self.m.all(k, k in ['a', 'b'])",
        "self.m.map(k, k) == ['a', 'b'] && self.m.exists(k, self.m[k] == 2)",
        "[[1], [2]].all(l, l.all(x, x > 0)) && [1].all(x, [2].all(x, x == 2))",
        "self.l.all(i, v, i < 3 && v > 0) && self.l.exists(i, v, i == 0 && v == 3)",
        "self.m.existsOne(k, v, v == 2) && self.m.all(k, v, v > 0)",
        "self.l.transformList(i, v, v + i) == [3, 2, 4]",
        "self.l.transformList(i, v, i > 0, v) == [1, 2]",
        "self.m.transformMap(k, v, v * 10) == {'a': 10, 'b': 20}",
        "self.m.transformMap(k, v, v > 1, v) == {'b': 2}",
        "self.m.transformMapEntry(k, v, {v: k}) == {1: 'a', 2: 'b'}",
        // Optionals.
        "self.?i.orValue(0) == 5 && self.?zz.orValue(7) == 7 && !self.?zz.hasValue()",
        "self.?o.?inner.?x.orValue('') == 'y' && self.?o.inner.x.value() == 'y'",
        "self.m[?'a'].value() == 1 && self.l[?9].orValue(0) == 0 && !self.?zz.?a.hasValue()",
        "optional.of(1).value() == 1 && optional.none().or(optional.of(2)).value() == 2",
        "self.?i.optMap(x, x + 1).value() == 6 && !self.?zz.optMap(x, x + 1).hasValue()",
        "self.?i.optFlatMap(x, optional.of(x)).value() == 5",
        "!optional.ofNonZeroValue('').hasValue() && optional.ofNonZeroValue(1).hasValue()",
        "[?self.?zz, ?self.?i] == [5] && {?'a': self.?zz, 'b': dyn(1)} == {'b': dyn(1)}",
        "optional.of(1) == optional.of(1) && optional.none() == optional.none()",
        // Strings.
        "'abc'.charAt(1) == 'b' && 'abc'.charAt(3) == '' && 'abcabc'.indexOf('c') == 2",
        "'abcabc'.indexOf('c', 3) == 5 && 'abcabc'.lastIndexOf('a') == 3 && 'abc'.indexOf('z') == -1",
        "'äbc'.indexOf('c') == 2 && 'AbC'.lowerAscii() == 'abc' && 'abC'.upperAscii() == 'ABC'",
        "' a '.trim() == 'a' && 'aba'.replace('a', 'x') == 'xbx' && 'aba'.replace('a', 'x', 1) == 'xba'",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c']",
        "'abc'.split('') == ['a', 'b', 'c'] && 'abcd'.substring(1, 3) == 'bc' && 'abc'.substring(2) == 'c'",
        "['a', 'b'].join() == 'ab' && ['a', 'b'].join(', ') == 'a, b'",
        "strings.quote('a\"b\\n') == '\"a\\\\\"b\\\\n\"'",
        "'%s %d %.2f %x %X %o %b %e %%'.format(['a', 5, 1.5, 255, 255, 8, 5, 1200.0]) == 'a 5 1.50 ff FF 10 101 1.200000×10⁰³ %'",
        r#"'%s'.format([[1, 'a']]) == '[1, "a"]' && '%s'.format([null]) == 'null'"#,
        // Patterns.
        r"'abc'.matches('^[a-c]+$') && matches('abc', 'b') && !'ä'.matches(r'^\w$')",
        r"'a1b22'.find(r'\d+') == '1' && 'a1b22'.findAll(r'\d+') == ['1', '22'] && 'a1b2'.findAll(r'\d', 1) == ['1']",
        r"'a-b'.matches(r'^[\w-]+$') && 'a[b'.matches('^[[a-b]+$') && 'a&&b'.matches('^[&a-b]+$')",
        // Lists and sets.
        "[1, 2, 3].isSorted() && ![2, 1].isSorted() && [1, 2].sum() == 3 && [2, 1].min() == 1",
        "[1.5, 2.5].max() == 2.5 && [1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2",
        "[1, 1, 2].distinct() == [1, 2] && [1, 2].reverse() == [2, 1] && [2, 1].sort() == [1, 2]",
        "[1, 2, 3].slice(1, 3) == [2, 3] && [[1], [2, 3]].flatten() == [1, 2, 3]",
        "[1, 2].first().value() == 1 && [1, 2].last().value() == 2 && lists.range(3) == [0, 1, 2]",
        "['bb', 'a'].sortBy(x, size(x)) == ['a', 'bb']",
        "sets.contains([1, 2, 3], [2]) && sets.equivalent([1, 2], [2, 1, 1]) && sets.intersects([1], [1, 2])",
        "!sets.contains([1], [2]) && !sets.intersects([1], [2])",
        // Times.
        "timestamp('2021-01-05T10:20:30Z').getFullYear() == 2021",
        "timestamp('2021-01-05T10:20:30Z').getHours('+02:00') == 12",
        "timestamp('2021-01-05T00:30:00Z').getDate('-01:00') == 4",
        "timestamp('2021-01-05T00:00:00Z').getDayOfWeek() == 2 && timestamp(0).getMonth() == 0",
        "timestamp('2021-01-02T00:00:00Z') - timestamp('2021-01-01T00:00:00Z') == duration('24h')",
        "duration('1h30m').getMinutes() == 90 && duration('1.5s').getMilliseconds() == 1500",
        "string(duration('90s')) == '90s' && string(timestamp('2021-01-05T00:00:00Z')) == '2021-01-05T00:00:00Z'",
        "duration('-1h') < duration('0') && duration('1m') + duration('1s') == duration('61s')",
        // URLs, addresses.
        "url('https://a.b:80/p%20q?k=v&k=w').getHost() == 'a.b:80' && isURL('/a') && !isURL('a b')",
        "url('https://[::1]:8/').getHostname() == '::1' && url('http://a').getPort() == ''",
        "url('http://a/b c').getEscapedPath() == '/b%20c' && url('http://a/?x=1').getQuery() == {'x': ['1']}",
        "isIP('::1') && !isIP('1.2.3') && !isIP('fe80::1%eth0') && ip('10.0.0.1').family() == 4",
        "ip.isCanonical('::1') && !ip.isCanonical('0:0::1') && ip('127.0.0.1').isLoopback()",
        "cidr('10.0.0.0/8').containsIP('10.1.1.1') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')",
        "cidr('10.1.1.1/8').masked() == cidr('10.0.0.0/8') && cidr('::/0').prefixLength() == 0",
        "!isCIDR('10.0.0.0/33') && cidr('10.0.0.0/8').ip() == ip('10.0.0.0')",
        // Quantities, versions, formats.
        "quantity('1Ki') == quantity('1024') && quantity('1500m').isGreaterThan(quantity('1'))",
        "quantity('1').add(quantity('500m')).compareTo(quantity('1.5')) == 0 && quantity('5').sub(2).asInteger() == 3",
        "isQuantity('1.5Gi') && !isQuantity('1.5X') && sign(quantity('-1')) == -1 && !quantity('1.5').isInteger()",
        "quantity('1e3').asInteger() == 1000 && quantity('250m').asApproximateFloat() == 0.25",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-a').isLessThan(semver('1.0.0'))",
        "isSemver('1.2.3') && !isSemver('v1.2') && isSemver('v1.2', true) && semver('1.2.3').minor() == 2",
        "timestamp('9999-12-31T23:59:59Z').getFullYear() == 9999 && string(timestamp('2020-01-01T00:00:00+01:00')) == '2020-01-01T00:00:00+01:00'",
        "timestamp('2020-07-01T12:00:00Z').getHours('Europe/Berlin') == 14 && timestamp('2020-01-01T00:00:00Z').getDate('-24:00') == 31",
        "string(1000000.0) == '1e+06' && string(123456.0) == '123456' && '%f'.format([1234567.5]) == '1,234,567.500000'",
        "'abc'.indexOf('a', 99) == -1 && ''.lastIndexOf('', 2) == 2 && !has(self.i.x) && !self.?i.?x.hasValue()",
        r"'a.b{,2}'.matches(r'^a\Q.\Eb{,2}$') && optional.of({'a': 1})['a'].value() == 1",
        "!format.dns1123Label().validate('abc').hasValue() && format.dns1123Label().validate('A').hasValue()",
        "format.named('uuid').hasValue() && !format.named('nope').hasValue()",
    ] {
        check(expression, &this);
    }
}

#[test]
fn evaluation_fails_with_the_words_of_kubernetes() {
    let this = json!({"s": "x", "l": [1], "m": {}});
    for (expression, expect) in [
        ("1 / 0 == 1", "division by zero"),
        ("1 % 0 == 1", "modulus by zero"),
        ("9223372036854775807 + 1 > 0", "integer overflow"),
        ("0u - 1u == 0u", "unsigned integer overflow"),
        ("self.zz == 1", "no such key: zz"),
        ("self.m['a'] == 1", "no such key: a"),
        ("self.l[3] == 1", "index out of bounds: 3"),
        (
            "int(self.s) == 1",
            "type conversion error from 'string' to 'int'",
        ),
        ("self.s.substring(9) == ''", "index out of range: 9"),
        ("self.s < 1", "no such overload"),
        ("self.s.size", "no such key: size"),
        ("self.l.size", "unsupported index type 'string' in list"),
        (
            "self.l['a'] == 1",
            "unsupported index type 'string' in list",
        ),
        ("self.m - 1 == 0", "no such overload: _-_"),
        ("self.s - 1 == 0", "no such overload: _-_"),
        (
            "self.l.lowerAscii() == ''",
            "no such overload: lowerAscii(list)",
        ),
        ("self.l.matches('a')", "no such overload: matches"),
        ("int(self.l) == 1", "no such overload: int(list)"),
        ("quantity('1') == self.s", "no such overload"),
        ("1.0 < double('NaN')", "NaN values cannot be ordered"),
        (
            "self.s.all(x, true)",
            "got 'types.String', expected iterable type",
        ),
        (
            "self.s.all(k, v, true)",
            "unsupported comprehension range type: types.String",
        ),
        ("[self.l].sort() == []", "list elements must be comparable"),
        (
            "[dyn(1), self.s].sort() == []",
            "list elements must have the same type",
        ),
        (
            "self.s.matches(self.s + '(')",
            "error parsing regexp: missing closing ): `x(`",
        ),
        (
            "semver(self.s + '.1').major() == 1",
            "No Major.Minor.Patch elements found",
        ),
        (
            "ip('1.2.' + self.s) == ip('::1')",
            "IP Address \"1.2.x\" parse error during \
          conversion from string: ParseAddr(\"1.2.x\"): unexpected character (at \"x\")",
        ),
        (
            "'%d'.format([self.s]) == ''",
            "error during formatting: decimal clause can only be used on integers, was given string",
        ),
        (
            "optional.none().value() == 1",
            "optional.none() dereference",
        ),
        ("[].min() == 1", "min called on empty list"),
        (
            "url(self.s).getHost() == ''",
            "URL parse error during conversion from string: parse \"x\": invalid URI for request",
        ),
        ("self.l.all(x, x / 0 == 1)", "division by zero"),
    ] {
        assert_eq!(
            fails(expression, &this, 1_000_000).to_string(),
            expect,
            "{expression}"
        );
    }
}

#[test]
fn nothing_escapes_the_budget() {
    let many: Vec<usize> = (0..5000).collect();
    let long = "a".repeat(1_000_000);
    let keys: serde_json::Map<String, Json> = many
        .iter()
        .map(|index| (format!("k{index}"), json!(1)))
        .collect();
    let this = json!({
        "l": many, "s": long, "words": vec!["aaaaaaaaaa"; 5000], "m": keys,
        "path": format!("/{}", "a".repeat(1_000_000)),
    });
    for expression in [
        "self.l.all(x, self.l.all(y, self.l.all(z, x + y + z >= 0)))",
        "self.l.map(x, self.l.map(y, x + y)).size() > 0",
        "self.l.exists(x, self.l.exists(y, x + y < 0))",
        "self.l.all(x, !self.s.matches('(a*)*b'))",
        "self.s.matches('(a{100}){100}b') || self.l.all(x, !self.s.matches('(a{90}){90}b'))",
        "self.l.all(x, size(self.s.matches('b' + string(x)) ? 'a' : 'b') > 0)",
        "self.l.all(x, self.s + self.s != '')",
        "self.l.all(x, self.s.replace('a', self.s) != '')",
        "self.l.all(x, self.s.split('').size() > 0)",
        "self.l.all(x, self.s.contains(self.s + 'b') || true)",
        "self.l.all(x, size(self.s) > 0 && self.s.lowerAscii() != '')",
        "self.l.all(x, self.words == self.words)",
        "self.l.all(x, x in self.l) && self.l.all(x, !(-1 in self.l))",
        "sets.equivalent(self.l, self.l)",
        "self.l.all(x, self.m.exists(k, true))",
        "self.l.all(x, !(self.s in self.m)) && self.l.all(x, {self.s: 1} != {})",
        "self.l.sortBy(x, self.s).size() > 0",
        "self.l.all(x, self.s.findAll('.*b|a').size() > 0)",
        "optional.of(url(self.path)).optMap(u, self.l.all(x, u.getEscapedPath() != '')).value()",
        "self.l.distinct().size() == 5000",
        "lists.range(100000000).size() > 0",
        "self.l.all(x, '%s'.format([self.l]) != '')",
        "self.l.sortBy(x, self.l.sum()).size() > 0",
        "self.l.all(x, self.words.join(self.s) != '')",
        "self.l.transformMap(i, v, self.l.transformMap(j, w, i + j)).size() > 0",
        // Doubled again and again.
        "[self.s].map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).size() > 0",
        "self.l.map(x, self.l).map(x, self.l) == self.l.map(x, self.l.map(y, x))",
        // Patterns that are made while it runs, and large once they are compiled.
        "self.l.all(x, !'a'.matches('((a{9}){9}){9}' + string(x)))",
        "self.l.all(x, self.s.findAll('a*?' + string(x)).size() == 0)",
        "self.words.map(w, self.words.sort()).size() == 0",
        "self.l.map(x, {'a': self.l}).all(x, x == {'a': self.l.map(y, y)})",
        "self.l.all(x, self.s.indexOf(self.s + 'b') == -1 && self.s.lastIndexOf('ba') == -1)",
        "self.l.all(x, string(bytes(self.s)) == self.s)",
        "self.l.all(x, strings.quote(self.s) != '')",
    ] {
        let error = fails(expression, &this, Budget::PER_EXPRESSION);
        assert_eq!(error, Error::Budget, "{expression}");
    }
}

/// What is written out in full elsewhere must not double what is done for each level.
#[test]
fn macros_inside_of_macros_are_judged_once() {
    let nested = |start: &str, step: &str| {
        let mut text = start.to_owned();
        for _ in 0..60 {
            text.push_str(step);
        }
        text
    };
    let fine = nested("optional.of([1, 2])", ".optMap(x, [x, x])");
    let program = environment().compile(&fine).expect("it is taken");
    assert!(program.cost_max() > 1 << 40, "{}", program.cost_max());
    let wrong = nested("optional.of(zz)", ".optMap(x, duration('x'))");
    let error = environment().compile(&wrong).expect_err("it is refused");
    assert!(error.to_string().len() < 1_000_000);
    let sorted = nested("[1]", ".sortBy(x, [x].sortBy(y, y)[0])");
    assert!(environment().compile(&sorted).is_ok());
}

#[test]
fn problems_are_printed_with_their_places() {
    for (expression, expect) in [
        (
            "self ==",
            "ERROR: <input>:1:8: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', \
             '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, \
             IDENTIFIER}\n | self ==\n | .......^",
        ),
        (
            "1 && true",
            "ERROR: <input>:1:1: expected type 'bool' but found 'int'\n | 1 && true\n | ^",
        ),
        (
            "[1].all(x, x) && dyn([1, 'a']) == 1",
            "ERROR: <input>:1:12: expected type 'bool' but found 'int'\n | [1].all(x, x) && dyn([1, \
             'a']) == 1\n | ...........^",
        ),
        (
            "[1, dyn(1)] == []",
            "ERROR: <input>:1:8: expected type 'int' but found 'dyn'\n | [1, dyn(1)] == []\n | \
             .......^",
        ),
        (
            "duration('1h') + 1 == 1",
            "ERROR: <input>:1:16: found no matching overload for '_+_' applied to '(duration, \
             int)'\n | duration('1h') + 1 == 1\n | ...............^",
        ),
        (
            "quantity('1').k == 1",
            "ERROR: <input>:1:14: unexpected failed resolution of 'kubernetes.Quantity'\n | \
             quantity('1').k == 1\n | .............^",
        ),
        (
            "'%d'.format(['a']) == ''",
            "ERROR: <input>:1:14: error during formatting: decimal clause can only be used on \
             integers, was given string\n | '%d'.format(['a']) == ''\n | .............^",
        ),
        (
            "1.optMap(e, e)",
            "ERROR: <input>:1:9: found no matching overload for 'hasValue' applied to 'int.()'\n | \
             1.optMap(e, e)\n | ........^\nERROR: <input>:1:9: found no matching overload for \
             'value' applied to 'int.()'\n | 1.optMap(e, e)\n | ........^",
        ),
        (
            "foo",
            "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo\n | ^",
        ),
        (
            "1 ==\n 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_==_' applied to '(int, \
             string)'\n | 1 ==\n | ..^",
        ),
        (
            "'ü' + 1",
            "ERROR: <input>:1:5: found no matching overload for '_+_' applied to '(string, \
             int)'\n | 'ü' + 1\n | .．..^",
        ),
        (
            "'a'.startsWith(1)",
            "ERROR: <input>:1:15: found no matching overload for 'startsWith' applied to \
             'string.(int)'\n | 'a'.startsWith(1)\n | ..............^",
        ),
        (
            "'a'.matches('(')",
            "ERROR: <input>:1:13: invalid matches argument\n | 'a'.matches('(')\n | ............^",
        ),
        (
            "has(self)",
            "ERROR: <input>:1:5: invalid argument to has() macro\n | has(self)\n | ....^",
        ),
        (
            "[1, 'a'].size() == 2",
            "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a'].size() == \
             2\n | ....^",
        ),
        (
            "for == 1",
            "ERROR: <input>:1:1: reserved identifier: for\n | for == 1\n | ^",
        ),
        (
            "(1",
            "ERROR: <input>:1:3: Syntax error: missing ')' at '<EOF>'\n | (1\n | ..^",
        ),
        (
            "5.all(x, true)",
            "ERROR: <input>:1:1: expression of type 'int' cannot be range of a comprehension \
             (must be list, map, or dynamic)\n | 5.all(x, true)\n | ^",
        ),
    ] {
        let error = environment().compile(expression).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(text, expect, "{expression}");
    }
}

#[test]
fn what_is_missing_or_too_much_is_named() {
    for (expression, place, expect) in [
        ("self.", 6, "no viable alternative at input '.'"),
        ("self.[1]", 6, "no viable alternative at input '.['"),
        (
            "self.?",
            7,
            "mismatched input '<EOF>' expecting {IDENTIFIER, ESC_IDENTIFIER}",
        ),
        ("[1", 3, "mismatched input '<EOF>' expecting {']', ','}"),
        ("[1 2]", 4, "extraneous input '2' expecting {']', ','}"),
        ("[1,", 4, "missing ']' at '<EOF>'"),
        ("{'a'", 5, "mismatched input '<EOF>' expecting ':'"),
        ("{'a' 1}", 6, "missing ':' at '1'"),
        (
            "{'a': 1",
            8,
            "mismatched input '<EOF>' expecting {'}', ','}",
        ),
        ("true ? 1", 9, "mismatched input '<EOF>' expecting ':'"),
        ("size(1 2)", 8, "extraneous input '2' expecting ')'"),
        ("size(1", 7, "missing ')' at '<EOF>'"),
    ] {
        let error = environment().compile(expression).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        let start = format!("ERROR: <input>:1:{place}: Syntax error: {expect}\n");
        assert!(text.starts_with(&start), "{expression}: {text}");
    }
    let quoted = environment()
        .compile("self.`a-b`")
        .expect_err("it is refused");
    let start = "ERROR: <input>:1:6: unsupported syntax: '`'\n";
    assert!(quoted.to_string().starts_with(start), "{quoted}");
}

/// Runs on a stack of the size that worker threads have.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
    let thread = thread.spawn(work).expect("a thread can be started");
    thread.join().expect("the work neither fails nor overflows");
}

#[test]
fn deep_nesting_is_refused_and_what_is_allowed_fits_the_stack() {
    on_a_small_stack(|| {
        for (open, close) in [
            ("(", ")"),
            ("[", "]"),
            ("{1: ", "}"),
            ("!(", ")"),
            ("[1].map(x, ", ")"),
        ] {
            let deep = format!("{}1{}", open.repeat(50_000), close.repeat(50_000));
            let deep: String = deep.chars().take(100_000).collect();
            assert!(environment().compile(&deep).is_err(), "{open}");
        }
        let long = vec!["1"; 40_000].join("+");
        assert!(environment().compile(&long).is_err());
        // Wide is fine, since the tree is balanced.
        let wide = vec!["true"; 10_000].join("&&");
        check(&wide, &Json::Null);
        let sum = format!("{} == 200", vec!["1"; 200].join(" + "));
        check(&sum, &Json::Null);
        let nested = format!("{}true{}", "[1].all(x, ".repeat(90), ")".repeat(90));
        check(&nested, &Json::Null);
        let lists = format!("{}1{} != []", "[".repeat(90), "]".repeat(90));
        // The type of each level must not be twice as large as that of the next.
        let twice = format!(
            "{}1{} != {{}}",
            "optional.of(1).optMap(a, {1: ".repeat(20),
            "}).value()".repeat(20)
        );
        check(&twice, &Json::Null);
        let many = vec!["[] == []"; 4000].join(" && ");
        check(&many, &Json::Null);
        check(&lists.replace("!= []", ".size() == 1"), &Json::Null);
    });
}

#[test]
fn what_mutations_are_made_of_is_written_out() {
    let made = |expression: &str| -> Result<Json, String> {
        let environment = environment().with_patches();
        let program = environment
            .compile(expression)
            .map_err(|error| error.to_string())?;
        let this = json!({"a": 1, "list": [1, 2]});
        let bindings = Bindings::new().with("self", Value::json(&this, None));
        let mut budget = Budget::new(Budget::PER_EXPRESSION);
        let value = program
            .evaluate(&bindings, &mut budget)
            .map_err(|error| error.to_string())?;
        let json = value.to_json(Whole::Number, &mut budget);
        json.map_err(|error| error.to_string())
    };
    for (expression, expect) in [
        ("Object{}", json!({})),
        (
            "Object{spec: Object.spec{replicas: self.a + 1, list: self.list}}",
            json!({"spec": {"replicas": 2, "list": [1, 2]}}),
        ),
        (
            "Object{?a: self.?a, ?b: self.?b, c: {'x': 1.0},}",
            json!({"a": 1, "c": {"x": 1}}),
        ),
        (
            "Object{a: b'hi', t: timestamp('2020-01-01T00:00:00Z'), d: duration('90s')}",
            json!({"a": "aGk=", "t": "2020-01-01T00:00:00Z", "d": "90s"}),
        ),
        ("Object{a: 1}.a + 1", json!(2)),
        ("JSONPatch{op: 'add'}.op + JSONPatch{}.path", json!("add")),
        ("jsonpatch.escapeKey('a/b~c')", json!("a~1b~0c")),
        (
            "Object{a: 1} == Object{a: 1} && dyn(Object{a: 1}) != Object.x{a: 1}",
            json!(true),
        ),
    ] {
        assert_eq!(made(expression), Ok(expect), "{expression}");
    }
    for (expression, expect) in [
        (
            "JSONPatch{op: 1}",
            "expected type of field 'op' is 'string'",
        ),
        ("JSONPatch{zz: 1}", "expected type of field 'zz' is ''"),
        ("Other{}", "undeclared reference to 'Other'"),
        ("Object{a 1}", "Syntax error: missing ':' at '1'"),
        ("Object{'a': 1}", "Syntax error: mismatched input"),
        (
            "Object{a: 1",
            "Syntax error: mismatched input '<EOF>' expecting {'}', ','}",
        ),
        (
            "JSONPatch{op: dyn(1)}",
            "unexpected type int64 for JSONPatchType 'op' field",
        ),
        ("Object{a: 1}.b", "no such key: b"),
        (
            "Object{a: optional.of(url('https://a'))}",
            "type conversion error from 'URL'",
        ),
    ] {
        let error = made(expression).expect_err(expression);
        assert!(error.contains(expect), "{expression}: {error}");
    }
    let plain = environment().compile("Object{}");
    let error = plain.expect_err("nothing is made here").to_string();
    assert!(
        error.contains("undeclared reference to 'Object'"),
        "{error}"
    );
}

#[test]
fn variables_stand_on_each_other_up_to_a_height() {
    let mut environment = environment();
    let mut height = 0;
    let mut refused = None;
    for level in 0..1000 {
        let source = match level {
            0 => "[0]".to_owned(),
            _ => format!("[[[v{}]]]", level - 1),
        };
        match environment.compile(&source) {
            Ok(program) => {
                assert!(program.height() > height, "each stands on the one before");
                height = program.height();
                let r#type = program.result().clone();
                environment = environment.with_computed(&format!("v{level}"), r#type, height);
            }
            Err(error) => {
                refused = Some(error.to_string());
                break;
            }
        }
    }
    let refused = refused.expect("there is an end to it");
    assert!(
        refused.contains("expression recursion limit exceeded: 1000"),
        "{refused}"
    );
    assert!(height > 990, "{height}");
}
