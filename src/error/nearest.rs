//! The name that was probably meant.

use datafusion::common::utils::datafusion_strsim::levenshtein;

/// Of the names that there are, the one that is most like `name`; none if all are too different.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let distance = |known: &str| levenshtein(&wanted, &known.to_lowercase());
    // A third of the letters may be wrong; two that changed places count as two.
    let most = wanted.chars().count().div_ceil(3);
    let near = known.into_iter().map(|known| (distance(known), known)).filter(|(d, _)| *d <= most);
    near.min_by(|one, other| one.cmp(other)).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_like_it_and_nothing_else() {
        let known = ["quantity", "country", "event_time", "id", "Upper"];
        for (name, expected) in [
            ("quantitiy", Some("quantity")),
            ("contry", Some("country")),
            ("qunatity", Some("quantity")),
            ("event", None),
            ("ix", Some("id")),
            ("upper", Some("Upper")),
            ("nothing", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }
}
