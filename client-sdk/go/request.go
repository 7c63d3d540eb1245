package keybroker

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/keybroker/keybroker/client-sdk/go/internal/keybrokerpb"
)

// Tier is the tier of a billing account.
type Tier int

const (
	// AnyTier leaves the tier open.
	AnyTier Tier = iota
	// FreeTier asks for keys without billing.
	FreeTier
	// PaidTier asks for keys with billing; such a request is never given a free key.
	PaidTier
)

// Request says what a lease is for. Only Model is required; the zero value of every other field is its default.
type Request struct {
	// Model is the id of the model that will be called, such as "gemini-2.5-flash".
	Model string
	// Pool is the pool to lease from. Default: the pool "default".
	Pool string
	// Consumer is who asks, 1 to 128 visible ASCII characters. Default: nobody, under no consumer's limit.
	Consumer string
	// InputTokens is an upper bound on the input tokens; the report's usage corrects it. 0: not counted.
	InputTokens int64
	// OutputTokens is an upper bound on the output tokens, thinking included. 0: not charged ahead.
	OutputTokens int64
	// TTL is how long the lease may be held without a report, 1 second to 1 hour. Default: the pool's.
	TTL time.Duration
	// Wait is how long the call may queue in the broker for a key, up to 10 minutes. Default: not at all for
	// [Client.Acquire]; as long as its deadline allows for [Client.Do] and [Transport], where a negative value
	// means not at all.
	Wait time.Duration
	// Permits is how many requests will be sent with the lease, 1 to 1000. Default: 1.
	Permits int
	// Project restricts to keys of this project: files, caches and batches belong to the project that made them.
	Project string
	// Tier restricts to keys of this tier.
	Tier Tier
	// ExcludeKeys are ids of keys not to be given, 256 at most.
	ExcludeKeys []string
	// ExcludeProjects are projects whose keys are not to be given, 256 at most.
	ExcludeProjects []string
	// KeyLabels restricts to keys that have all of these labels, 16 at most.
	KeyLabels map[string]string
	// Labels are free labels for logs and traces, 16 at most.
	Labels map[string]string
}

func (r Request) toProto() *pb.AcquireRequest {
	request := &pb.AcquireRequest{
		Pool: r.Pool, Model: r.Model, Consumer: r.Consumer,
		InputTokens: r.InputTokens, OutputTokens: r.OutputTokens,
		Labels: maps.Clone(r.Labels),
		Constraints: &pb.Constraints{
			Project: r.Project, Tier: pb.Tier(r.Tier),
			ExcludeKeyIds: slices.Clone(r.ExcludeKeys), ExcludeProjects: slices.Clone(r.ExcludeProjects),
			Labels: maps.Clone(r.KeyLabels),
		},
	}
	if r.TTL != 0 {
		request.Ttl = durationpb.New(r.TTL)
	}
	if r.Wait > 0 {
		request.Wait = durationpb.New(r.Wait)
	}
	if r.Permits != 0 {
		request.Permits = new(int32(min(max(r.Permits, -1<<31), 1<<31-1)))
	}
	return request
}
