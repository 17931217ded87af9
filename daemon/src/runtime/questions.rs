//! Questions that the control loop answers from its own decisions. They are rare, so nothing is
//! prepared for them: an answer is computed and put into words when it is asked for.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::core::api::ObjectName;
use crate::core::explain::Explanation;

/// Questions that may wait. The control socket asks few at a time.
const CAPACITY: usize = 8;
/// Limit for an answer. The control loop is busy for long only with very many changes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a service is or is not announced by this process.
#[derive(Debug)]
pub(crate) struct Question {
    /// The service.
    pub service: ObjectName,
    /// Takes the answer, or why there is none.
    pub answer: oneshot::Sender<Result<Explanation, String>>,
}

/// The control loop's end. The default receives none.
#[derive(Debug, Default)]
pub struct Questions(Option<mpsc::Receiver<Question>>);

/// The end of those who ask.
#[derive(Clone, Debug)]
pub(crate) struct Asker(mpsc::Sender<Question>);

/// Creates the channel.
pub(crate) fn questions() -> (Asker, Questions) {
    let (asker, questions) = mpsc::channel(CAPACITY);
    (Asker(asker), Questions(Some(questions)))
}

impl Questions {
    /// The next question. Never returns without an asker.
    pub(crate) async fn next(&mut self) -> Question {
        if let Some(questions) = &mut self.0
            && let Some(question) = questions.recv().await
        {
            return question;
        }
        std::future::pending().await
    }
}

impl Asker {
    /// Asks the control loop about a service.
    ///
    /// # Errors
    /// The text says why there is no answer, and what to do.
    pub(crate) async fn explain(&self, service: ObjectName) -> Result<Explanation, String> {
        let (answer, answered) = oneshot::channel();
        let question = Question { service, answer };
        let ended = || "the control loop has ended: see the daemon's log".to_owned();
        let asked = async {
            self.0.send(question).await.map_err(|_| ended())?;
            answered.await.map_err(|_| ended())?
        };
        let late = || {
            format!(
                "the control loop does not answer within {} s: see the daemon's log, and the load \
                 of the node",
                ANSWER_TIMEOUT.as_secs()
            )
        };
        timeout(ANSWER_TIMEOUT, asked).await.map_err(|_| late())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> ObjectName {
        ObjectName::new("shop", "web")
    }

    #[tokio::test]
    async fn an_answer_reaches_the_one_who_asked() {
        let (asker, mut questions) = questions();
        let answering = async {
            let question = questions.next().await;
            assert_eq!(question.service, web());
            let refused = question.answer.send(Err("no such service".to_owned()));
            assert!(refused.is_ok());
        };
        let (answer, ()) = tokio::join!(asker.explain(web()), answering);
        assert_eq!(answer, Err("no such service".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_control_loop_that_has_ended_or_is_stalled_is_an_error() {
        let (asker, questions) = questions();
        let late = asker.explain(web()).await.expect_err("no answer");
        assert!(late.contains("within 10 s"), "{late}");
        drop(questions);
        let ended = asker.explain(web()).await.expect_err("no listener");
        assert!(ended.contains("has ended"), "{ended}");
    }
}
