//! Types in words, much as C writes them: for people, never to be compared.

use super::{DebugInfo, Kind};

/// Longest description, in bytes, give or take one name.
const MAX_TEXT: usize = 160;
/// How deep parameters of function types are spelled out.
const MAX_NESTED: usize = 4;

impl DebugInfo {
    /// A type in words: `struct list_head *`, `u64[4]`, `int (*)(struct file *)`.
    pub(super) fn describe(&self, entry: Option<usize>) -> String {
        let mut out = String::new();
        self.write(entry, "", MAX_NESTED, &mut out);
        out
    }

    /// Writes a type around a declarator: what C writes in the place of the name.
    fn write(&self, entry: Option<usize>, declarator: &str, nested: usize, out: &mut String) {
        if out.len() > MAX_TEXT || declarator.len() > MAX_TEXT || nested == 0 {
            out.push('…');
            return;
        }
        let Some(entry) = entry else {
            out.push_str("void");
            join(out, declarator);
            return;
        };
        let name = self.name(entry).unwrap_or("{…}");
        let target = self.target(entry);
        let word = match self.entries[entry].kind {
            Kind::Struct => "struct ",
            Kind::Union => "union ",
            Kind::Enum => "enum ",
            Kind::Pointer => {
                let pointee = self.unqualified(target).map(|at| self.entries[at].kind);
                let inner = match pointee {
                    Some(Kind::Array | Kind::FunctionType) => format!("(*{declarator})"),
                    _ => format!("*{declarator}"),
                };
                return self.write(target, &inner, nested, out);
            }
            Kind::Array => {
                let count = self.elements(entry).map(|count| count.to_string()).unwrap_or_default();
                return self.write(target, &format!("{declarator}[{count}]"), nested, out);
            }
            Kind::Qualifier => return self.write(target, declarator, nested, out),
            Kind::FunctionType => {
                let mut parameters = String::new();
                for parameter in self.children(entry, Kind::Parameter) {
                    if !parameters.is_empty() {
                        parameters.push_str(", ");
                    }
                    self.write(self.target(parameter), "", nested - 1, &mut parameters);
                    if parameters.len() > MAX_TEXT {
                        break;
                    }
                }
                return self.write(target, &format!("{declarator}({parameters})"), nested, out);
            }
            _ => "",
        };
        out.push_str(word);
        out.push_str(name);
        join(out, declarator);
    }
}

fn join(out: &mut String, declarator: &str) {
    if declarator.starts_with(['*', '(']) {
        out.push(' ');
    }
    out.push_str(declarator);
}
