//! Expressions made to explode, for tests and measurements: each uses up its budget, or is
//! refused, or ends; none may take longer than its budget is worth.

use std::{fs, time::Duration};

use rdd_cel::{Budget, Environment, Error, Program, Resolve, Type, Value, Whole};
use serde_json::{Map, Value as Json, json};

/// What `self` is: large in every way.
pub(crate) fn this() -> Json {
    let many: Vec<usize> = (0..5000).collect();
    let keys: Map<String, Json> = many
        .iter()
        .map(|index| (format!("k{index}"), json!(1)))
        .collect();
    let deep = (0..60).fold(json!(1), |inner, level| {
        if level % 2 == 0 {
            json!([inner])
        } else {
            json!({"a": inner})
        }
    });
    let text = |part: &str| part.repeat(1_000_000 / part.len());
    json!({
        "l": many, "m": keys, "deep": vec![deep; 1000], "s": text("a"),
        "nested": vec![vec![vec![1; 50]; 50]; 50],
        "words": vec!["aaaaaaaaaa"; 5000],
        "wide": text("\u{1F600}"), "digits": text("9"), "dots": text("1."), "colons": text("1:"),
        "url": format!("https://host/{}?{}", text("%41"), text("a=b&")),
        "time": format!("2020-01-01T00:00:00.{}Z", text("9")), "hours": text("1h"),
        "base64": text("QUJD"), "quotes": text("\""), "mixed": text("aB"),
        "doubles": (0..5000).map(|at| f64::from(at) / 7.0).collect::<Vec<f64>>(),
        "percents": text("%s"), "commas": text("a,"),
    })
}

/// Each is asked of `self`.
pub(crate) const EXPRESSIONS: &[&str] = &[
    // Macros in macros.
    "self.l.all(x, self.l.all(y, self.l.all(z, x + y + z >= 0)))",
    "self.l.map(x, self.l.map(y, x + y)).size() > 0",
    "self.l.exists(x, self.l.exists(y, x + y < 0))",
    "self.l.exists_one(x, self.l.exists_one(y, x + y < 0))",
    "self.l.filter(x, self.l.filter(y, x > y).size() > 0).size() > 0",
    "self.l.transformMap(i, v, self.l.transformMap(j, w, i + j)).size() > 0",
    "self.l.transformList(i, v, self.l.transformList(j, w, i + j)).size() > 0",
    "self.m.all(k, self.m.all(j, k != j + j))",
    "self.l.map(x, self.l).map(x, self.l) == self.l.map(x, self.l.map(y, x))",
    "lists.range(100000000).size() > 0",
    "lists.range(5000).map(x, lists.range(5000)).size() > 0",
    "optional.of(self.l).optMap(l, l.map(x, l.map(y, l.map(z, x)))).value().size() > 0",
    // Objects that are written out.
    "self.l.map(x, self.l.map(y, Object{a: self.l, b: Object.b{c: self.m}}))",
    "Object{a: self, b: self, c: self, d: [self, self, self], e: {'x': self, 'y': self}}",
    "self.l.map(x, Object{a: self.deep})",
    "self.l.map(x, JSONPatch{op: self.s, path: jsonpatch.escapeKey(self.s), value: self.l})",
    "Object{a: self.l} == Object{a: self.l} && self.l.all(x, Object{a: self.l} == Object{a: self.l})",
    // Texts that grow.
    "self.l.all(x, self.s + self.s != '')",
    "[self.s].map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).size() > 0",
    "self.l.all(x, self.s.replace('a', self.s) != '')",
    "self.l.all(x, self.s.replace('', self.s) != '')",
    "self.s.replace('', 'aaaaaaaaaa').replace('', 'aaaaaaaaaa').replace('', 'aaaaaaaaaa') != ''",
    "self.l.all(x, self.words.join(self.s) != '')",
    "self.l.all(x, '%s%s%s%s'.format([self.s, self.s, self.s, self.s]) != '')",
    "self.l.all(x, '%s'.format([self.l]) != '')",
    "self.l.all(x, '%s'.format([self.deep]) != '')",
    "self.l.all(x, '%s'.format([self.doubles]) != '')",
    "self.l.all(x, '%.100f'.format([1.5]) != '')",
    "self.l.all(x, self.percents.format([1]) != '' || true)",
    "self.l.map(x, self.s).join('').size() > 0",
    "self.l.all(x, strings.quote(self.quotes) != '')",
    // Texts that are gone through.
    "self.l.all(x, self.s.split('').size() > 0)",
    "self.l.all(x, self.commas.split(',').size() > 0)",
    "self.l.all(x, self.s.contains(self.s + 'b') || true)",
    "self.l.all(x, size(self.s) > 0 && self.mixed.lowerAscii() != '')",
    "self.l.all(x, size(self.wide) > 0)",
    "self.l.all(x, self.wide.charAt(240000) != '')",
    "self.l.all(x, self.wide.substring(100, 240000) != '')",
    "self.l.all(x, self.wide.indexOf('b') == -1)",
    "self.l.all(x, self.s.indexOf(self.s + 'b') == -1 && self.s.lastIndexOf('ba') == -1)",
    "self.l.all(x, self.s.startsWith(self.s) && self.s.endsWith(self.s))",
    "self.l.all(x, string(bytes(self.wide)) == self.wide)",
    "self.l.all(x, self.s == self.s + '' && !(self.s < self.s))",
    "self.l.all(x, self.s.trim() != '')",
    // Patterns.
    "self.l.all(x, !self.s.matches('(a*)*b'))",
    "self.l.all(x, !self.s.matches('(a|aa)+$b'))",
    "self.l.all(x, !self.s.matches('(x+x+)+y'))",
    "self.s.matches('(a{100}){100}b') || self.l.all(x, !self.s.matches('(a{90}){90}b'))",
    "self.l.all(x, !self.s.matches('(.*.*.*.*.*.*.*.*.*.*)b'))",
    "self.l.all(x, !self.s.matches('[^x]*[^y]*[^z]*(a|b|ab)*c{100}'))",
    "self.l.all(x, !self.wide.matches('^(\\\\PN*\\\\pL*)*x'))",
    "self.l.all(x, size(self.s.matches('b' + string(x)) ? 'a' : 'b') > 0)",
    "self.l.all(x, !'a'.matches('((a{9}){9}){9}' + string(x)))",
    "self.l.all(x, !'a'.matches('(\\\\pL{9}){9}' + string(x)))",
    "self.l.all(x, !'a'.matches('\\\\pL\\\\pN\\\\pS\\\\pP\\\\pM\\\\pZ' + string(x)))",
    "self.l.all(x, self.s.findAll('.*b|a').size() > 0)",
    "self.l.all(x, self.s.findAll('a*?' + string(x)).size() == 0)",
    "self.l.all(x, self.s.find('(a*)*b') == '')",
    "self.l.all(x, !'a'.matches(self.s + string(x)))",
    "self.l.all(x, !'a'.matches(self.quotes + '{' + string(x)))",
    // Lists and maps.
    "self.l.all(x, self.words == self.words)",
    "self.l.all(x, self.deep == self.deep)",
    "self.l.all(x, self.nested == self.nested)",
    "self.l.all(x, self.deep.map(y, y) == self.deep)",
    "self.l.all(x, self.nested.flatten(3).size() > 0)",
    "self.l.all(x, x in self.l) && self.l.all(x, !(-1 in self.l))",
    "self.l.all(x, !(self.s in self.m)) && self.l.all(x, {self.s: 1} != {})",
    "self.l.all(x, !(self.deep[0] in self.deep.reverse().map(y, [y])))",
    "self.l.all(x, self.m.exists(k, true)) && self.l.all(x, self.m == self.m)",
    "self.l.map(x, [1]).map(x, self.l + self.l).size() > 0",
    "self.l.map(x, self.l + x.map(y, y)).size() > 0 || true",
    "self.l.all(x, (self.l + self.l + self.l + self.l + self.l).size() > 0)",
    "self.l.sortBy(x, self.s).size() > 0",
    "self.l.sortBy(x, self.l.sum()).size() > 0",
    "self.words.map(w, self.words.sort()).size() == 0",
    "self.l.all(x, self.words.isSorted() && self.words.min() == self.words.max())",
    "self.l.all(x, self.l.distinct().size() == 5000)",
    "self.deep.distinct().size() > 0 && self.l.all(x, self.deep.distinct().size() > 0)",
    "self.l.all(x, self.words.indexOf('b') == -1 && self.words.lastIndexOf('b') == -1)",
    "self.l.all(x, self.l.reverse().slice(0, 4999).size() > 0)",
    "self.l.all(x, sets.equivalent(self.l, self.l))",
    "self.l.all(x, sets.contains(self.words, self.words))",
    "self.l.all(x, sets.intersects(self.deep, self.nested))",
    "self.l.map(x, {'a': self.l}).all(x, x == {'a': self.l.map(y, y)})",
    // Values that are parsed.
    "self.l.all(x, isURL(self.url))",
    "optional.of(url(self.url)).optMap(u, self.l.all(x, u.getEscapedPath() != '')).value()",
    "self.l.all(x, url(self.url).getQuery().size() > 0)",
    "self.l.all(x, !isQuantity(self.digits) || true)",
    "self.l.all(x, quantity(self.digits) == quantity('1') || true)",
    "self.l.all(x, !isSemver(self.dots))",
    "self.l.all(x, !isSemver('1.2.3-' + self.dots))",
    "self.l.all(x, !isIP(self.colons) && !isIP(self.dots))",
    "self.l.all(x, !isCIDR(self.dots + '/8'))",
    "self.l.all(x, ip.isCanonical(self.colons) || true)",
    "self.l.all(x, int(self.digits) == 1 || true)",
    "self.l.all(x, double(self.digits) > 1.0 || true)",
    "self.l.all(x, timestamp(self.time) == timestamp(self.time) || true)",
    "self.l.all(x, duration(self.hours) == duration('1h') || true)",
    "self.l.all(x, !format.dns1123Label().validate(self.s).hasValue())",
    "self.l.all(x, format.uri().validate(self.url).hasValue() || true)",
    "self.l.all(x, format.byte().validate(self.base64).hasValue() || true)",
];

/// Texts to compile, as long as they may be, with names.
pub(crate) fn texts() -> Vec<(&'static str, String)> {
    let long = |part: &str| part.repeat(99_000 / part.len());
    let around = |open: &str, inner: &str, close: &str, times: usize| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    vec![
        ("10,000 brackets", around("(", "1", ")", 10_000)),
        ("lists in lists", around("[", "1", "]", 10_000)),
        ("maps in maps", around("{'a':", "1", "}", 10_000)),
        ("not not not", format!("{}true", long("!"))),
        ("minus minus minus", format!("{}1", long("- "))),
        ("a sum of thousands", format!("{}1", long("1+"))),
        ("an and of thousands", format!("{}true", long("true&&"))),
        ("fields of fields", format!("self{}", long(".a"))),
        ("choices in choices", format!("{}1", long("true?1:"))),
        ("a list of thousands", format!("[{}1]", long("1,"))),
        ("a map of thousands", format!("{{{}'b':1}}", long("'a':1,"))),
        ("macros in macros", around("self.l.all(x,", "true", ")", 90)),
        (
            "optMap in optMap",
            around("optional.of(1).optMap(x,", "x", ")", 90),
        ),
        ("calls on calls", format!("self.s{}", long(".trim()"))),
        ("wrong types", format!("[{}1]", long("1+'a',"))),
        ("unknown names", format!("[{}1]", long("zz,"))),
        ("a long text", format!("'{}'", long("a"))),
        ("a text of escapes", format!("'{}'", long("\\u0041"))),
        ("a long number", long("9")),
        ("an open text", format!("'{}", long("a"))),
        (
            "a long pattern",
            format!("''.matches('{}')", long("(a|b)*")),
        ),
        (
            "a pattern of sets",
            format!("''.matches(r'{}')", long("\\pL")),
        ),
        (
            "a pattern of classes",
            format!("''.matches('{}')", long("[[:alpha:]]")),
        ),
        (
            "a pattern of groups",
            format!("''.matches('{}')", around("(", "a", ")", 40_000)),
        ),
        (
            "a pattern of repeats",
            format!("''.matches('{}')", around("(", "a", "{9})", 15_000)),
        ),
        ("a long template", format!("'{}'.format([1])", long("%s"))),
        ("nothing that is known", long("\u{1F600}")),
        ("brackets without an end", long("(")),
        ("operators only", long("&& ")),
    ]
}

/// What the processor did for the thread so far.
pub(crate) fn processor_time() -> Duration {
    let spent = fs::read_to_string("/proc/thread-self/schedstat");
    let nanos = spent.as_deref().unwrap_or_default().split_whitespace();
    match nanos.map(str::parse).next() {
        Some(Ok(nanos)) => Duration::from_nanos(nanos),
        _ => panic!("the kernel does not tell the time of a thread: {spent:?}"),
    }
}

struct This<'a>(&'a Json);

impl<'a> Resolve<'a> for This<'a> {
    fn resolve(&self, name: &str, _: &mut Budget) -> Result<Option<Value<'a>>, Error> {
        Ok((name == "self").then(|| Value::json(self.0, None)))
    }
}

fn environment() -> Environment {
    Environment::new().with("self", Type::Dyn).with_patches()
}

/// How long an expression takes, and what it comes to.
pub(crate) fn evaluate(expression: &str, this: &Json) -> (Duration, Result<(), Error>) {
    let program: Program = match environment().compile(expression) {
        Ok(program) => program,
        Err(error) => panic!("{expression}: {error}"),
    };
    let mut budget = Budget::new(Budget::PER_EXPRESSION);
    let before = processor_time();
    let ended = program
        .evaluate(&This(this), &mut budget)
        .and_then(|value| value.to_json(Whole::Text, &mut budget))
        .map(|_| ());
    (processor_time().saturating_sub(before), ended)
}

/// How long it takes to say what a text is.
pub(crate) fn compile(text: &str) -> Duration {
    let before = processor_time();
    let _ = environment().compile(text);
    processor_time().saturating_sub(before)
}
