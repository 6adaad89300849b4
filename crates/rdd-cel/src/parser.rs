//! From tokens to a tree, by recursive descent of bounded depth.

use crate::{
    lexer::{self, Token, TokenKind},
    source::{CHARACTERS_MAX, CompileError, Problem},
    syntax::{Access, Entry, Expr, ExprKind, Fold, FoldKind, Literal, Made, MadeField, OptMap},
};

/// Nodes on the longest way from the root to a leaf. All later passes recurse over the
/// tree, so that this bounds their stack.
pub(crate) const DEPTH_MAX: usize = 250;

/// Expressions inside of brackets inside of expressions; a level costs the parser more
/// stack than a node costs the later passes.
const NESTING_MAX: usize = 100;

const OPERAND: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, \
                       NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// The same at the beginning of a list, of a map and of arguments, which may be empty.
const LIST: &str = "{'[', ']', '{', '(', '.', ',', '-', '!', '?', 'true', 'false', 'null', \
                    NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
const MAP: &str = "{'[', '{', '}', '(', '.', ',', '-', '!', '?', 'true', 'false', 'null', \
                   NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
const FIELDS: &str = "{'}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}";
const ARGUMENTS: &str = "{'[', '{', '(', ')', '.', '-', '!', 'true', 'false', 'null', \
                         NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// Whether an operand may begin with this.
fn starts_operand(kind: &TokenKind) -> bool {
    match kind {
        TokenKind::End | TokenKind::In | TokenKind::Quoted(_) => false,
        TokenKind::Op(one) => matches!(*one, "[" | "{" | "(" | "." | "-" | "!"),
        _ => true,
    }
}

/// Words that the specification keeps for later.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "package",
    "namespace",
    "null",
    "return",
    "true",
    "var",
    "void",
    "while",
];

type Parsed<T> = Result<T, Problem>;

/// Reads one expression.
pub(crate) fn parse(source: &str) -> Result<Expr, CompileError> {
    let failed = |problem| CompileError::new(source, vec![problem]);
    let characters: Vec<char> = source.chars().collect();
    if characters.len() > CHARACTERS_MAX {
        let text = format!(
            "expression code point size exceeds limit: size: {}, limit {CHARACTERS_MAX}",
            characters.len()
        );
        return Err(CompileError::new("", vec![Problem { at: 0, text }]));
    }
    let tokens = lexer::tokens(&characters).map_err(failed)?;
    let mut parser = Parser {
        source: &characters,
        tokens: &tokens,
        at: 0,
        depth: 0,
    };
    let parsed = parser.expr().and_then(|expr| {
        if parser.token().kind == TokenKind::End {
            return Ok(expr);
        }
        Err(parser.unexpected("<EOF>", parser.next_is(&TokenKind::End)))
    });
    parsed.map_err(failed)
}

struct Parser<'a> {
    source: &'a [char],
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

fn node(at: usize, children: usize, kind: ExprKind) -> Parsed<Expr> {
    let depth = children + 1;
    if depth > DEPTH_MAX {
        return Err(too_deep(at));
    }
    Ok(Expr { at, depth, kind })
}

fn too_deep(at: usize) -> Problem {
    Problem {
        at,
        text: format!("expression recursion limit exceeded: {DEPTH_MAX}"),
    }
}

fn deepest<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> usize {
    exprs.into_iter().map(|expr| expr.depth).max().unwrap_or(0)
}

fn call(at: usize, function: &str, args: Vec<Expr>) -> Parsed<Expr> {
    let function = function.to_owned();
    node(
        at,
        deepest(&args),
        ExprKind::Call {
            function,
            target: None,
            args,
        },
    )
}

impl Parser<'_> {
    fn token(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next_is(&self, kind: &TokenKind) -> bool {
        self.tokens
            .get(self.at + 1)
            .is_some_and(|token| token.kind == *kind)
    }

    fn text(&self) -> String {
        let token = self.token();
        if token.kind == TokenKind::End {
            return "<EOF>".to_owned();
        }
        self.source[token.at..token.end].iter().collect()
    }

    /// A wrong token: one too many if what follows would do.
    fn unexpected(&self, expected: &str, extra: bool) -> Problem {
        let word = if extra { "extraneous" } else { "mismatched" };
        Problem {
            at: self.token().at,
            text: format!(
                "Syntax error: {word} input '{}' expecting {expected}",
                self.text()
            ),
        }
    }

    fn is(&self, operator: &str) -> bool {
        matches!(self.token().kind, TokenKind::Op(one) if one == operator)
    }

    fn ends(&self) -> bool {
        self.token().kind == TokenKind::End
    }

    /// Takes the operator if it comes next, and says where it stood.
    fn accept(&mut self, operator: &str) -> Option<usize> {
        if !self.is(operator) {
            return None;
        }
        let at = self.token().at;
        self.at += 1;
        Some(at)
    }

    fn expect(&mut self, operator: &'static str) -> Parsed<usize> {
        if let Some(at) = self.accept(operator) {
            return Ok(at);
        }
        let extra = self.follows(|kind| *kind == TokenKind::Op(operator));
        // Something else could follow here if only the operator stood before it.
        let absent = match operator {
            ":" => starts_operand(&self.token().kind),
            _ => self.token().kind == TokenKind::End,
        };
        if absent && !extra {
            return Err(Problem {
                at: self.token().at,
                text: format!("Syntax error: missing '{operator}' at '{}'", self.text()),
            });
        }
        Err(self.unexpected(&format!("'{operator}'"), extra))
    }

    /// As [`Parser::expect`] for the end of a list or a map; `after` says that a comma was
    /// the last.
    fn close(&mut self, operator: &'static str, after: bool) -> Parsed<usize> {
        if after || self.is(operator) {
            return self.expect(operator);
        }
        let extra = self
            .follows(|kind| matches!(kind, TokenKind::Op(one) if *one == operator || *one == ","));
        Err(self.unexpected(&format!("{{'{operator}', ','}}"), extra))
    }

    /// Whether the token after the next one would do.
    fn follows(&self, does: impl Fn(&TokenKind) -> bool) -> bool {
        let next = self.tokens.get(self.at + 1);
        next.is_some_and(|token| does(&token.kind))
    }

    /// A name must come after the dot before.
    fn no_name(&self) -> Problem {
        let token = self.token();
        let text = match token.kind {
            TokenKind::End => String::new(),
            _ => self.text(),
        };
        Problem {
            at: token.at,
            text: format!("Syntax error: no viable alternative at input '.{text}'"),
        }
    }

    fn expr(&mut self) -> Parsed<Expr> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(too_deep(self.token().at));
        }
        let condition = self.chain("||", "_||_")?;
        let parsed = if let Some(at) = self.accept("?") {
            let yes = self.chain("||", "_||_")?;
            self.expect(":")?;
            let no = self.expr()?;
            call(at, "_?_:_", vec![condition, yes, no])
        } else {
            Ok(condition)
        };
        self.depth -= 1;
        parsed
    }

    /// `a || b || c`, or with `&&`: a balanced tree, as the operators are associative.
    fn chain(&mut self, operator: &str, function: &str) -> Parsed<Expr> {
        let mut terms = Vec::new();
        let mut places = Vec::new();
        loop {
            terms.push(Some(if operator == "||" {
                self.chain("&&", "_&&_")?
            } else {
                self.relation()?
            }));
            match self.accept(operator) {
                Some(at) => places.push(at),
                None => break,
            }
        }
        balance(&mut terms, &places, function)
    }

    fn relation(&mut self) -> Parsed<Expr> {
        let mut left = self.sum()?;
        loop {
            let function = match &self.token().kind {
                TokenKind::Op("==") => "_==_",
                TokenKind::Op("!=") => "_!=_",
                TokenKind::Op("<") => "_<_",
                TokenKind::Op("<=") => "_<=_",
                TokenKind::Op(">") => "_>_",
                TokenKind::Op(">=") => "_>=_",
                TokenKind::In => "@in",
                _ => return Ok(left),
            };
            let at = self.token().at;
            self.at += 1;
            let right = self.sum()?;
            left = call(at, function, vec![left, right])?;
        }
    }

    fn sum(&mut self) -> Parsed<Expr> {
        let mut left = self.product()?;
        loop {
            let function = match &self.token().kind {
                TokenKind::Op("+") => "_+_",
                TokenKind::Op("-") => "_-_",
                _ => return Ok(left),
            };
            let at = self.token().at;
            self.at += 1;
            let right = self.product()?;
            left = call(at, function, vec![left, right])?;
        }
    }

    fn product(&mut self) -> Parsed<Expr> {
        let mut left = self.unary()?;
        loop {
            let function = match &self.token().kind {
                TokenKind::Op("*") => "_*_",
                TokenKind::Op("/") => "_/_",
                TokenKind::Op("%") => "_%_",
                _ => return Ok(left),
            };
            let at = self.token().at;
            self.at += 1;
            let right = self.unary()?;
            left = call(at, function, vec![left, right])?;
        }
    }

    fn unary(&mut self) -> Parsed<Expr> {
        for (operator, function) in [("!", "!_"), ("-", "-_")] {
            let Some(at) = self.accept(operator) else {
                continue;
            };
            let mut odd = true;
            while self.accept(operator).is_some() {
                odd = !odd;
            }
            let is_number = matches!(self.token().kind, TokenKind::Int(_) | TokenKind::Float(_));
            if operator == "-" && odd && is_number {
                let literal = self.number(true)?;
                let operand = node(at, 0, ExprKind::Literal(literal))?;
                return self.members(operand);
            }
            let operand = self.member()?;
            return if odd {
                call(at, function, vec![operand])
            } else {
                Ok(operand)
            };
        }
        self.member()
    }

    fn member(&mut self) -> Parsed<Expr> {
        let operand = self.primary()?;
        self.members(operand)
    }

    fn members(&mut self, mut operand: Expr) -> Parsed<Expr> {
        loop {
            if let Some(at) = self.accept(".") {
                let optional = self.accept("?").is_some();
                let place = self.token().clone();
                let field = match &place.kind {
                    TokenKind::Ident(name) => name.clone(),
                    // Kubernetes does not turn these on.
                    TokenKind::Quoted(_) => {
                        return Err(Problem {
                            at: place.at,
                            text: "unsupported syntax: '`'".to_owned(),
                        });
                    }
                    _ if optional => {
                        let names = "{IDENTIFIER, ESC_IDENTIFIER}";
                        return Err(self.unexpected(names, false));
                    }
                    _ => return Err(self.no_name()),
                };
                self.at += 1;
                if !optional && self.is("(") {
                    let (open, args) = self.arguments()?;
                    operand = method(open, operand, field, args)?;
                    continue;
                }
                let how = if optional {
                    Access::Optional
                } else {
                    Access::Read
                };
                let depth = operand.depth;
                let operand_box = Box::new(operand);
                operand = node(
                    at,
                    depth,
                    ExprKind::Select {
                        operand: operand_box,
                        field,
                        how,
                    },
                )?;
            } else if let Some(at) = self.accept("[") {
                let function = if self.accept("?").is_some() {
                    "_[?_]"
                } else {
                    "_[_]"
                };
                let index = self.expr()?;
                self.expect("]")?;
                operand = call(at, function, vec![operand, index])?;
            } else {
                return Ok(operand);
            }
        }
    }

    /// What stands between parentheses, and where they open.
    fn arguments(&mut self) -> Parsed<(usize, Vec<Expr>)> {
        let open = self.expect("(")?;
        let mut args = Vec::new();
        if self.accept(")").is_some() {
            return Ok((open, args));
        }
        if self.ends() {
            return Err(self.unexpected(ARGUMENTS, false));
        }
        loop {
            args.push(self.expr()?);
            if self.accept(",").is_none() {
                self.expect(")")?;
                return Ok((open, args));
            }
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        if let Some((name, open)) = self.made_name() {
            self.at = open;
            return self.made(name);
        }
        let token = self.token().clone();
        let at = token.at;
        let literal = match token.kind {
            TokenKind::Int(_) | TokenKind::Uint(_) | TokenKind::Float(_) => {
                let literal = self.number(false)?;
                return node(at, 0, ExprKind::Literal(literal));
            }
            TokenKind::Ident(name) => {
                self.at += 1;
                return self.name(at, name);
            }
            TokenKind::String(text) => Literal::String(text),
            TokenKind::Bytes(bytes) => Literal::Bytes(bytes),
            TokenKind::True => Literal::Bool(true),
            TokenKind::False => Literal::Bool(false),
            TokenKind::Null => Literal::Null,
            TokenKind::Op("(") => {
                self.at += 1;
                let inner = self.expr()?;
                self.expect(")")?;
                return Ok(inner);
            }
            TokenKind::Op("[") => return self.list(),
            TokenKind::Op("{") => return self.map(),
            TokenKind::Op(".") => {
                // A leading dot means the root: past the variables of macros, too.
                self.at += 1;
                if let Some((name, open)) = self.made_name() {
                    self.at = open;
                    return self.made(format!(".{name}"));
                }
                if let TokenKind::Ident(name) = self.token().kind.clone() {
                    let at = self.token().at;
                    self.at += 1;
                    let mut named = self.name(at, name)?;
                    if let ExprKind::Ident(name) = &mut named.kind {
                        name.insert(0, '.');
                    }
                    return Ok(named);
                }
                return Err(self.no_name());
            }
            _ => {
                let follows = self.tokens.get(self.at + 1).map(|token| &token.kind);
                let would_do = follows.is_some_and(|kind| {
                    !matches!(
                        kind,
                        TokenKind::End | TokenKind::In | TokenKind::Quoted(_) | TokenKind::Op(_)
                    )
                });
                return Err(self.unexpected(OPERAND, would_do));
            }
        };
        self.at += 1;
        node(at, 0, ExprKind::Literal(literal))
    }

    fn name(&mut self, at: usize, name: String) -> Parsed<Expr> {
        if RESERVED.contains(&name.as_str()) {
            return Err(Problem {
                at,
                text: format!("reserved identifier: {name}"),
            });
        }
        if !self.is("(") {
            return node(at, 0, ExprKind::Ident(name));
        }
        let (open, mut args) = self.arguments()?;
        if name == "has" && args.len() == 1 {
            let arg = args.swap_remove(0);
            return match arg.kind {
                ExprKind::Select {
                    operand,
                    field,
                    how: Access::Read,
                } => node(
                    open,
                    operand.depth,
                    ExprKind::Select {
                        operand,
                        field,
                        how: Access::Test,
                    },
                ),
                _ => Err(Problem {
                    at: arg.at,
                    text: "invalid argument to has() macro".to_owned(),
                }),
            };
        }
        call(open, &name, args)
    }

    fn list(&mut self) -> Parsed<Expr> {
        let at = self.expect("[")?;
        if self.ends() {
            return Err(self.unexpected(LIST, false));
        }
        let mut items = Vec::new();
        let mut more = true;
        while more && !self.is("]") && (items.is_empty() || !self.ends()) {
            let optional = self.accept("?").is_some();
            items.push((self.expr()?, optional));
            more = self.accept(",").is_some();
        }
        self.close("]", more)?;
        let depth = deepest(items.iter().map(|(item, _)| item));
        node(at, depth, ExprKind::List(items))
    }

    fn map(&mut self) -> Parsed<Expr> {
        let at = self.expect("{")?;
        let mut entries = Vec::new();
        let mut depth = 0;
        if self.ends() {
            return Err(self.unexpected(MAP, false));
        }
        let mut more = true;
        while more && !self.is("}") && (entries.is_empty() || !self.ends()) {
            let optional = self.accept("?").is_some();
            let key = self.expr()?;
            self.expect(":")?;
            let value = self.expr()?;
            depth = depth.max(key.depth).max(value.depth);
            entries.push(Entry {
                key,
                value,
                optional,
            });
            more = self.accept(",").is_some();
        }
        self.close("}", more)?;
        node(at, depth, ExprKind::Map(entries))
    }

    /// The name of an object that is written out here, and the place of its brace.
    fn made_name(&self) -> Option<(String, usize)> {
        let kind = |index: usize| self.tokens.get(index).map(|token| &token.kind);
        let word = |index: usize| match kind(index) {
            Some(TokenKind::Ident(word)) => Some(word.as_str()),
            _ => None,
        };
        let mut end = self.at + 1;
        let mut name = word(self.at)?.to_owned();
        while kind(end) == Some(&TokenKind::Op(".")) {
            name.push('.');
            name.push_str(word(end + 1)?);
            end += 2;
        }
        (kind(end) == Some(&TokenKind::Op("{"))).then_some((name, end))
    }

    fn made(&mut self, name: String) -> Parsed<Expr> {
        let at = self.expect("{")?;
        let mut fields = Vec::new();
        let mut depth = 0;
        let mut more = true;
        if self.accept(",").is_some() {
            more = false;
        }
        while more && !self.is("}") && (fields.is_empty() || !self.ends()) {
            let optional = self.accept("?").is_some();
            let token = self.token().clone();
            let name = match token.kind {
                TokenKind::Ident(name) => name,
                TokenKind::Quoted(_) => {
                    return Err(Problem {
                        at: token.at,
                        text: "unsupported syntax: '`'".to_owned(),
                    });
                }
                _ if optional => {
                    return Err(self.unexpected("{IDENTIFIER, ESC_IDENTIFIER}", false));
                }
                _ => return Err(self.unexpected(FIELDS, false)),
            };
            self.at += 1;
            let at = self.expect(":")?;
            let value = self.expr()?;
            depth = depth.max(value.depth);
            fields.push(MadeField {
                at,
                name,
                value,
                optional,
            });
            more = self.accept(",").is_some();
        }
        self.close("}", more || fields.is_empty())?;
        node(at, depth, ExprKind::Made(Made { name, fields }))
    }

    fn number(&mut self, negative: bool) -> Parsed<Literal> {
        let token = self.token().clone();
        self.at += 1;
        let wrong = |what: &str| Problem {
            at: token.at,
            text: format!("invalid {what} literal"),
        };
        let digits = |text: &str| match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        };
        match &token.kind {
            TokenKind::Int(text) => {
                let value = digits(text).map(i128::from);
                let value = value.map(|value| if negative { -value } else { value });
                let value = value.and_then(|value| i64::try_from(value).ok());
                value.map(Literal::Int).ok_or_else(|| wrong("int"))
            }
            TokenKind::Uint(text) => digits(text).map(Literal::Uint).ok_or_else(|| wrong("uint")),
            TokenKind::Float(text) => match text.parse::<f64>() {
                Ok(value) if value.is_finite() => {
                    Ok(Literal::Double(if negative { -value } else { value }))
                }
                _ => Err(wrong("double")),
            },
            _ => Err(wrong("number")),
        }
    }
}

/// A balanced tree over terms and the operators between them.
fn balance(terms: &mut [Option<Expr>], places: &[usize], function: &str) -> Parsed<Expr> {
    if let [term] = terms {
        return Ok(term.take().expect("every term is taken once"));
    }
    let middle = terms.len() / 2;
    let (left, right) = terms.split_at_mut(middle);
    let left = balance(left, &places[..middle - 1], function)?;
    let right = balance(right, &places[middle..], function)?;
    call(places[middle - 1], function, vec![left, right])
}

/// A call on a value: a macro, if it has a macro's name and form.
fn method(at: usize, target: Expr, name: String, args: Vec<Expr>) -> Parsed<Expr> {
    let count = args.len();
    if matches!(name.as_str(), "optMap" | "optFlatMap") && count == 2 {
        let mut args = args.into_iter();
        let (Some(variable), Some(body)) = (args.next(), args.next()) else {
            return Err(too_deep(at));
        };
        let depth = target.depth.max(body.depth);
        let inner = OptMap {
            target,
            variable: simple_name(&variable)?,
            body,
            flat: name == "optFlatMap",
        };
        return node(at, depth, ExprKind::OptMap(Box::new(inner)));
    }
    if name == "sortBy"
        && count == 2
        && matches!(target.kind, ExprKind::Literal(_) | ExprKind::Map(_))
    {
        return Err(Problem {
            at: target.at,
            text: "sortBy can only be applied to a list, identifier, comprehension, call or \
                   select expression"
                .to_owned(),
        });
    }
    // Name, arguments, and which of them are variables, filter and body.
    let (kind, variables, filter) = match (name.as_str(), count) {
        ("all", 2) => (FoldKind::All, 1, false),
        ("all", 3) => (FoldKind::All, 2, false),
        ("exists", 2) => (FoldKind::Exists, 1, false),
        ("exists", 3) => (FoldKind::Exists, 2, false),
        ("exists_one" | "existsOne", 2) => (FoldKind::ExistsOne, 1, false),
        ("exists_one" | "existsOne", 3) => (FoldKind::ExistsOne, 2, false),
        ("map", 2) | ("filter", 2) => (FoldKind::List, 1, false),
        ("map", 3) => (FoldKind::List, 1, true),
        ("sortBy", 2) => (FoldKind::SortBy, 1, false),
        ("transformList", 3) => (FoldKind::List, 2, false),
        ("transformList", 4) => (FoldKind::List, 2, true),
        ("transformMap", 3) => (FoldKind::Map, 2, false),
        ("transformMap", 4) => (FoldKind::Map, 2, true),
        ("transformMapEntry", 3) => (FoldKind::MapEntry, 2, false),
        ("transformMapEntry", 4) => (FoldKind::MapEntry, 2, true),
        _ => {
            let depth = deepest(&args).max(target.depth);
            return node(
                at,
                depth,
                ExprKind::Call {
                    function: name,
                    target: Some(Box::new(target)),
                    args,
                },
            );
        }
    };
    let depth = deepest(&args).max(target.depth);
    let mut args = args.into_iter();
    let mut names = Vec::new();
    for arg in args.by_ref().take(variables) {
        names.push((arg.at, simple_name(&arg)?));
    }
    let Some((place, variable)) = names.pop() else {
        return Err(too_deep(at));
    };
    let key = names.pop().map(|(_, key)| key);
    if key.as_ref() == Some(&variable) {
        return Err(Problem {
            at: place,
            text: format!("duplicate variable name: {variable}"),
        });
    }
    let mut condition = if filter { args.next() } else { None };
    let Some(mut body) = args.next() else {
        return Err(too_deep(at));
    };
    if name == "filter" {
        let element = node(place, 0, ExprKind::Ident(variable.clone()))?;
        condition = Some(std::mem::replace(&mut body, element));
    }
    let fold = Fold {
        kind,
        range: target,
        key,
        variable,
        filter: condition,
        body,
    };
    node(at, depth, ExprKind::Fold(Box::new(fold)))
}

fn simple_name(expr: &Expr) -> Parsed<String> {
    match &expr.kind {
        ExprKind::Ident(name) if !name.starts_with('.') => Ok(name.clone()),
        _ => Err(Problem {
            at: expr.at,
            text: "argument must be a simple name".to_owned(),
        }),
    }
}
