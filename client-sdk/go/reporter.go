package keybroker

import (
	"context"
	"sync"
	"time"

	pb "github.com/keybroker/keybroker/client-sdk/go/internal/keybrokerpb"
)

const (
	// batchReports is the most reports of one call, by the contract.
	batchReports = 256
	// batchBytes of error bodies close a call, well below the 4 MiB that a gRPC server takes.
	batchBytes = 1 << 20
	// reportCalls is how many calls are under way at once; a report that finds them all busy joins the next batch.
	reportCalls = 8
)

var reportBackoff = backoff{first: 100 * time.Millisecond, longest: 2 * time.Second}

// reporter delivers reports: in batches, in the background, again while no broker answers. It has no goroutine while
// there is nothing to deliver.
type reporter struct {
	rpc      *rpc
	settings *settings
	// base ends when the client is closed and has waited for reports.
	base context.Context

	mu    sync.Mutex
	queue []*item
	calls int
	// outstanding counts the reports in the queue and under way.
	outstanding int
	lost        uint64
	// idle is closed when nothing is outstanding; nil while nobody waits for it.
	idle chan struct{}
}

// item is one report, and who waits for its advice.
type item struct {
	report   *pb.LeaseReport
	trace    context.Context
	giveUpAt time.Time
	done     chan struct{}
	// Written before done is closed.
	advice Advice
	err    error
}

// submit queues a report at once; it never waits.
func (r *reporter) submit(report *pb.LeaseReport, trace context.Context) *item {
	made := &item{report: report, trace: trace, giveUpAt: time.Now().Add(r.settings.reportPatience), done: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.outstanding >= r.settings.reportQueue {
		r.lost++
		made.err = &ReportLostError{"the report queue is full: the broker is away, or WithReportQueue is too low"}
		close(made.done)
		r.settings.logger.Warn("keybroker: a report was given up", "lease", report.GetLeaseId(), "error", made.err)
		return made
	}
	r.outstanding++
	r.queue = append(r.queue, made)
	if r.calls < reportCalls {
		r.calls++
		go r.work()
	}
	return made
}

func (r *reporter) work() {
	for {
		batch := r.take()
		if batch == nil {
			return
		}
		r.deliver(batch)
	}
}

// take gives what is queued already; it waits for nothing, so an idle client adds no latency.
func (r *reporter) take() []*item {
	r.mu.Lock()
	defer r.mu.Unlock()
	count, bytes := 0, 0
	for count < min(len(r.queue), batchReports) && bytes < batchBytes {
		bytes += len(r.queue[count].report.GetHttpError().GetBody())
		count++
	}
	if count == 0 {
		r.calls--
		return nil
	}
	batch := append([]*item(nil), r.queue[:count]...)
	clear(r.queue[:count])
	if r.queue = r.queue[count:]; len(r.queue) == 0 {
		r.queue = nil
	}
	return batch
}

// deliver tries until all of the batch is delivered or given up.
func (r *reporter) deliver(batch []*item) {
	for retry := 0; len(batch) > 0; retry++ {
		err := r.send(batch)
		if err == nil {
			return
		}
		if known, ok := asError(err); !ok || !known.Retryable() {
			r.giveUpOrSplit(batch, err)
			return
		}
		wait := reportBackoff.wait(retry)
		if unavailable, ok := err.(*UnavailableError); ok && unavailable.RetryAfter > 0 {
			wait = min(unavailable.RetryAfter, reportBackoff.longest)
		}
		batch = r.keepPatient(batch, time.Now().Add(wait), err)
		if len(batch) > 0 && pause(r.base, wait) != nil {
			r.giveUp(batch, &ReportLostError{"the client was closed while no broker answered: " + err.Error()})
			return
		}
	}
}

func (r *reporter) send(batch []*item) error {
	ctx := r.base
	if len(batch) == 1 {
		// A trace can be gone on with only where it is one.
		ctx = joined{Context: r.base, values: batch[0].trace}
	}
	reports := make([]*pb.LeaseReport, len(batch))
	for at, item := range batch {
		reports[at] = item.report
	}
	response, err := r.rpc.report(ctx, reports)
	if err != nil {
		return err
	}
	results := response.GetResults()
	if len(results) != len(batch) {
		return &OtherError{Message: "the broker's answer breaks the contract, use matching versions: another number of results than reports"}
	}
	for at, item := range batch {
		item.advice = adviceOf(results[at])
	}
	r.finish(batch, false)
	return nil
}

// joined ends with one context and has the values of another.
type joined struct {
	context.Context
	values context.Context
}

func (j joined) Value(key any) any {
	if value := j.Context.Value(key); value != nil || j.values == nil {
		return value
	}
	return j.values.Value(key)
}

// giveUpOrSplit sends each report alone: one bad report must not take the others of its batch with it.
func (r *reporter) giveUpOrSplit(batch []*item, err error) {
	if len(batch) == 1 || r.base.Err() != nil {
		r.giveUp(batch, err)
		return
	}
	for at := range batch {
		r.deliver(batch[at : at+1 : at+1])
	}
}

func (r *reporter) keepPatient(batch []*item, nextTry time.Time, err error) []*item {
	var patient, expired []*item
	for _, item := range batch {
		if item.giveUpAt.After(nextTry) {
			patient = append(patient, item)
		} else {
			expired = append(expired, item)
		}
	}
	if len(expired) > 0 {
		r.giveUp(expired, &ReportLostError{err.Error()})
	}
	return patient
}

func (r *reporter) giveUp(batch []*item, err error) {
	if _, ok := asError(err); !ok {
		err = &ReportLostError{err.Error()}
	}
	for _, item := range batch {
		item.err = err
		r.settings.logger.Warn("keybroker: a report was given up", "lease", item.report.GetLeaseId(), "error", err)
	}
	r.finish(batch, true)
}

func (r *reporter) finish(batch []*item, lost bool) {
	r.mu.Lock()
	r.outstanding -= len(batch)
	if lost {
		r.lost += uint64(len(batch))
	}
	if r.outstanding == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
	r.mu.Unlock()
	for _, item := range batch {
		close(item.done)
	}
}

// flush waits until nothing is outstanding.
func (r *reporter) flush(ctx context.Context) error {
	for {
		r.mu.Lock()
		if r.outstanding == 0 {
			r.mu.Unlock()
			return nil
		}
		if r.idle == nil {
			r.idle = make(chan struct{})
		}
		idle := r.idle
		r.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			outstanding, _ := r.counts()
			return &UndeliveredError{Reports: outstanding, err: ctx.Err()}
		}
	}
}

func (r *reporter) counts() (outstanding int, lost uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.outstanding, r.lost
}
