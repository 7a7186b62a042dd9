//! Which of a loop's output topics, by what it is for: no index has to match the order of a list.

/// Which of a loop's output topics a record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Output,
    DeadLetters,
    /// A named output of a transform, by its place in `Routes::named`.
    Named(u16),
}

/// One of something for each output topic of a loop.
#[derive(Clone, Debug)]
pub struct Routes<T> {
    pub output: T,
    pub dead_letters: T,
    pub named: Vec<T>,
}

impl<T> Routes<T> {
    /// `None` for a name that this loop does not have.
    pub fn get(&self, route: Route) -> Option<&T> {
        match route {
            Route::Output => Some(&self.output),
            Route::DeadLetters => Some(&self.dead_letters),
            Route::Named(at) => self.named.get(usize::from(at)),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        [&self.output, &self.dead_letters].into_iter().chain(&self.named)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        [&mut self.output, &mut self.dead_letters].into_iter().chain(&mut self.named)
    }

    /// The way to the first for which that holds.
    pub fn find(&self, holds: impl Fn(&T) -> bool) -> Option<Route> {
        let named = (0..).zip(&self.named).map(|(at, each)| (Route::Named(at), each));
        let all = [(Route::Output, &self.output), (Route::DeadLetters, &self.dead_letters)].into_iter().chain(named);
        all.into_iter().find(|(_, each)| holds(each)).map(|(route, _)| route)
    }

    /// The same ways to something else.
    ///
    /// # Errors
    /// The first of `each`.
    pub fn try_map<U, E>(&self, mut each: impl FnMut(&T) -> Result<U, E>) -> Result<Routes<U>, E> {
        Ok(Routes {
            output: each(&self.output)?,
            dead_letters: each(&self.dead_letters)?,
            named: self.named.iter().map(each).collect::<Result<_, E>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_leads_to_what_it_was_found_for() {
        let routes = Routes { output: "out", dead_letters: "dead", named: vec!["red", "blue"] };
        for name in routes.iter() {
            assert_eq!(routes.find(|each| each == name).and_then(|route| routes.get(route)), Some(name));
        }
        assert_eq!(routes.find(|each| *each == "blue"), Some(Route::Named(1)));
        assert_eq!(routes.find(|each| *each == "green"), None);
        assert_eq!(routes.get(Route::Named(2)), None);
    }
}
