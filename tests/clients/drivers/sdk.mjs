// An agent on the Anthropic TypeScript SDK; the same scenarios, ways and summary as sdk.py.
//
// The SDK is in an environment of its own, named by CLIENT_ENVIRONMENT: Node looks modules up from the script's own
// directory, not from the one it runs in.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const require = createRequire(pathToFileURL(`${process.env.CLIENT_ENVIRONMENT}/`));
const { default: Anthropic, AnthropicError } = require('@anthropic-ai/sdk');
const { betaTool } = require('@anthropic-ai/sdk/helpers/beta/json-schema');

const schema = { type: 'object', properties: { key: { type: 'string' } }, required: ['key'] };
const description = 'Looks a key up in the plan.';
const lookup = ({ key }) => `value of ${key}: ${Array.from({ length: 40 }, (_, n) => `${key}-${n}`).join(' ')}`;

// The message with the cache breakpoint on its last block, which turns a string into a block.
function marked({ role, content }) {
  const blocks = typeof content === 'string' ? [{ type: 'text', text: content }] : content;
  return { role, content: [...blocks.slice(0, -1), { ...blocks.at(-1), cache_control: { type: 'ephemeral' } }] };
}

const usageNames = ['input_tokens', 'cache_creation_input_tokens', 'cache_read_input_tokens', 'output_tokens'];

// Keeps one conversation and what is to be reported about it.
class Agent {
  messages = [];
  summary = { replies: [], errors: [], usage: {} };

  constructor({ session, model, system, way, tools }) {
    process.env.ANTHROPIC_CUSTOM_HEADERS = `X-Agent-Session: ${session}`;
    this.client = new Anthropic();
    this.way = way;
    this.tools = tools;
    const text = `Conversation ${session}. ${system}`;
    this.parameters = {
      model,
      max_tokens: 4096,
      thinking: { type: 'adaptive' },
      system: [{ type: 'text', text, cache_control: { type: 'ephemeral' } }],
    };
  }

  // Begin a turn.
  ask(text) {
    this.messages.push({ role: 'user', content: text });
  }

  // Go on up to Claude's answer; again after an error that ended it halfway.
  async finish() {
    await (this.way.startsWith('runner') ? this.byRunner() : this.byHand());
  }

  async byHand() {
    for (;;) {
      const request = {
        ...this.parameters,
        tools: [{ name: 'lookup', description, input_schema: schema }, ...this.tools],
        messages: [...this.messages.slice(0, -1), marked(this.messages.at(-1))],
      };
      const reply =
        this.way === 'json'
          ? await this.client.messages.create(request)
          : await this.client.messages.stream(request).finalMessage();
      this.note(reply);
      if (reply.stop_reason !== 'tool_use') return;
      const uses = reply.content.filter((block) => block.type === 'tool_use');
      const results = uses.map((use) => ({ type: 'tool_result', tool_use_id: use.id, content: lookup(use.input) }));
      this.messages.push({ role: 'user', content: results });
    }
  }

  async byRunner() {
    const stream = this.way === 'runner-stream';
    const tools = [betaTool({ name: 'lookup', description, inputSchema: schema, run: lookup })];
    const messages = [...this.messages];
    const runner = this.client.beta.messages.toolRunner({ ...this.parameters, tools, messages, stream });
    for await (const item of runner) {
      this.note(stream ? await item.finalMessage() : item);
      const results = await runner.generateToolResponse();
      if (results) this.messages.push(results);
    }
  }

  // Put one reply into the conversation and the summary.
  note({ content, stop_reason, usage }) {
    this.messages.push({ role: 'assistant', content });
    const of = (type) => content.filter((block) => block.type === type);
    this.summary.replies.push({
      text: of('text').map((block) => block.text).join(''),
      thinking: of('thinking').length,
      tools: of('tool_use').map(({ name, input }) => ({ name, input })),
      stop_reason,
    });
    for (const name of usageNames) this.summary.usage[name] = (this.summary.usage[name] ?? 0) + (usage[name] ?? 0);
  }
}

// Hold one conversation. API errors are part of the summary; any other error is the driver's own.
async function hold(scenario) {
  const agent = new Agent(scenario);
  for (const text of scenario.turns) {
    agent.ask(text);
    for (let left = scenario.attempts; left > 0; left--) {
      try {
        await agent.finish();
        break;
      } catch (error) {
        if (!(error instanceof AnthropicError)) throw error;
        const { status = null, message } = error;
        agent.summary.errors.push({ type: error.constructor.name, status, message });
        if (left === 1) return agent.summary;
      }
    }
  }
  return agent.summary;
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await hold(JSON.parse(line))));
}
