//! What was sent for one slot, and which reads of it are lawful after a crash.
//!
//! The rule: the last acknowledged value or any later one; before the first acknowledgement also nothing. What was once
//! read after a restart was recovered, so it is as good as acknowledged, and what was not there stays away.

/// The values of one slot, oldest first. One sender owns the slot, so the order of sending is the order of storing.
#[derive(Debug, Default)]
pub(crate) struct History {
    sent: Vec<f64>,
    /// How many of `sent` were sent before the last acknowledgement.
    settled: usize,
}

impl History {
    /// `value` is on its way.
    pub(crate) fn send(&mut self, value: f64) {
        self.sent.push(value);
    }

    /// All that was sent is stored.
    pub(crate) fn acknowledge(&mut self) {
        self.settled = self.sent.len();
    }

    /// Checks what a restarted server reads from the slot, and takes it as settled.
    pub(crate) fn read(&mut self, read: Option<f64>) -> Result<(), String> {
        let Some(value) = read else {
            if self.settled > 0 {
                return Err(format!("an acknowledged value is missing: {:?}", self.sent));
            }
            self.sent.clear();
            return Ok(());
        };
        let lawful = &self.sent[self.settled.saturating_sub(1)..];
        if !lawful.iter().any(|sent| sent.to_bits() == value.to_bits()) {
            return Err(format!("read {value:?}, which is none of {lawful:?}; sent before: {:?}", self.sent));
        }
        self.sent = vec![value];
        self.settled = 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_acknowledged_value_or_a_later_one_is_read() {
        let history = || {
            let mut history = History::default();
            history.send(1.0);
            history.send(2.0);
            history.acknowledge();
            history.send(3.0);
            history
        };
        assert!(history().read(Some(2.0)).is_ok());
        assert!(history().read(Some(3.0)).is_ok());
        assert!(history().read(Some(1.0)).is_err());
        assert!(history().read(Some(4.0)).is_err());
        assert!(history().read(None).is_err());
    }

    #[test]
    fn what_was_recovered_once_is_recovered_again() {
        let mut history = History::default();
        assert!(history.read(Some(1.0)).is_err());
        history.send(1.0);
        history.send(-0.0);
        assert!(history.read(Some(0.0)).is_err());
        assert!(history.read(Some(-0.0)).is_ok());
        assert!(history.read(None).is_err());
        assert!(history.read(Some(1.0)).is_err());

        let mut absent = History::default();
        absent.send(1.0);
        assert!(absent.read(None).is_ok());
        assert!(absent.read(Some(1.0)).is_err());
    }
}
